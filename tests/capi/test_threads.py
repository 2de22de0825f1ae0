# SPDX-License-Identifier: Apache-2.0
"""Threads: the same bits for any number, parts that fit together and take all threads equally long, none where
one thread is faster. Everything is counted, nothing is timed."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgekit import program as p
from edgekit.format.writer import Packing, write
from edgekit.plan.planner import plan
from edgekit.reference.executor import run as reference
from edgekit.runtime import kernels as kernel_sets
from edgekit.runtime.capi import ffi, lib
from tests.capi.net import Library, Net
from tests.support import Build, Random, quant


def sums(r: Random, channels: int) -> dict[str, Any]:
    """What an operator with weights has beside them, for so many output channels."""
    bias = np.arange(channels, dtype=np.int32)
    return {"bias": bias, "weight_scale": r.weight_scale(channels), "lo": -128, "hi": 127}


def dense(rows: int, k: int, o: int) -> p.Program:
    r = Random(rows + k + o)
    b = Build()
    x = b.input((rows, k), quant(0.1, 3))
    return b.finish(b.op(p.Dense, [x, b.constant(r.weights(o, k))], (rows, o), quant(0.5), **sums(r, o)))


def conv(h: int, w: int, c: int, o: int, kernel: int = 1) -> p.Program:
    r = Random(h + c + o)
    b = Build()
    x = b.input((1, h, w, c), quant(0.1, -7))
    weights, pads = b.constant(r.weights(o, kernel, kernel, c)), (kernel // 2,) * 4
    return b.finish(b.op(p.Conv2D, [x, weights], (1, h, w, o), quant(0.5), pads=pads, **sums(r, o)))


def depthwise(h: int, w: int, c: int) -> p.Program:
    r = Random(h + w + c)
    b = Build()
    x = b.input((1, h, w, c), quant(0.1, 5))
    weights = b.constant(r.weights(3, 3, c))
    return b.finish(
        b.op(p.DepthwiseConv2D, [x, weights], (1, h, w, c), quant(0.5), pads=(1, 1, 1, 1), **sums(r, c))
    )


LAYERS: dict[str, Callable[[], p.Program]] = {
    "dense row": lambda: dense(1, 256, 1024),
    "dense rows": lambda: dense(197, 24, 64),
    "pointwise": lambda: conv(25, 5, 64, 64),
    "pointwise, few positions": lambda: conv(7, 7, 40, 512),
    "3x3": lambda: conv(7, 7, 16, 256, 3),
    "3x3, many rows": lambda: conv(56, 56, 3, 16, 3),
    "depthwise": lambda: depthwise(25, 25, 64),
}


class Loops:
    """An ek_parallel_for that does the parts one after the other and notes what each of them writes."""

    def __init__(self) -> None:
        self.sizes: list[list[int]] = []
        self.watched: tuple[np.ndarray, np.ndarray] | None = None

    def run(self, _: Any, task: Any, argument: Any, count: int) -> None:
        sizes = []
        for part in range(count):
            if self.watched is not None:
                output, expected = self.watched
                output[...] = ~expected
            task(argument, part, part % 2)
            if self.watched is not None:
                sizes.append(int((output == expected).sum()))
        self.sizes.append(sizes)


def loops_of(
    data: bytes, threads: int, sample: dict[str, np.ndarray], expected: np.ndarray, word: int
) -> Loops:
    """The parallel loops of one run of a single layer."""
    loops = Loops()
    callback = ffi.callback("ek_parallel_for", loops.run)
    net = Net(data, word, threads, callback, ffi.NULL)
    (output,) = net.outputs.values()
    loops.watched = (output, expected)
    net.run(sample)
    return loops


def last_thread_done(sizes: list[int], threads: int) -> int:
    """When the last of threads that take parts in turn is done, one output per unit of time."""
    busy = [0] * threads
    for size in sizes:
        heapq.heapreplace(busy, busy[0] + size)
    return max(busy)


@pytest.mark.parametrize("threads", [2, 3, 4, 8])
@pytest.mark.parametrize("layer", LAYERS)
def test_parts_fit_together_and_take_threads_equally_long(layer: str, threads: int) -> None:
    program = LAYERS[layer]()
    plan(program)
    (sample, *_) = Random(1).samples(program, 1)
    (expected,) = reference(program, sample).values()
    loops = loops_of(
        write(program, packing=Packing(sparse_below=0)), threads, sample, expected, lib.EK_KERNELS_SCALAR
    )
    (sizes,) = loops.sizes
    assert threads <= len(sizes) <= 4 * threads
    assert min(sizes) > 0
    assert sum(sizes) == expected.size
    assert last_thread_done(sizes, threads) <= 1.3 * expected.size / threads


@pytest.mark.parametrize("word", [lib.EK_KERNELS_SCALAR, kernel_sets.mask()])
def test_a_step_that_one_thread_does_faster_is_not_cut(word: int) -> None:
    program = dense(1, 32, 32)
    plan(program)
    (sample, *_) = Random(2).samples(program, 1)
    (expected,) = reference(program, sample).values()
    assert loops_of(write(program), 8, sample, expected, word).sizes == []


@pytest.mark.parametrize("threads", [2, 4])
def test_tiled_weights_are_decoded_once(threads: int) -> None:
    """Parts of a layer whose weights are decoded tile by tile hold whole tiles with all of their positions, so that
    no two decode the same tile."""
    rows, depth = 4, 256
    tile = 6144 // depth  # channels whose weights SMALL_TILE_BYTES of prepare.c holds
    program = dense(rows, depth, 1024)
    plan(program)
    (sample, *_) = Random(3).samples(program, 1)
    (expected,) = reference(program, sample).values()
    data = write(program, packing=Packing(tile=(8, 4), sparse_below=0))
    (sizes,) = loops_of(data, threads, sample, expected, lib.EK_KERNELS_SCALAR).sizes
    assert sum(sizes) == expected.size
    assert len(sizes) >= threads and all(size % (rows * tile) == 0 for size in sizes[:-1])


@pytest.mark.parametrize("layer", LAYERS)
def test_any_number_of_threads_gives_the_same_bits(layer: str, library: Library) -> None:
    program = LAYERS[layer]()
    plan(program)
    (sample, *_) = Random(4).samples(program, 1)
    (expected,) = reference(program, sample).values()
    data = write(program)
    for word in {lib.EK_KERNELS_SCALAR, kernel_sets.mask() | lib.EK_REPACK}:
        for threads in range(1, 9):
            with library.pool(threads) as (parallel_for, context):
                net = Net(data, word, threads, parallel_for, context)
                for _ in range(3):
                    (got,) = net.run(sample).values()
                    np.testing.assert_array_equal(
                        got, expected, f"{layer}, kernels {word:#x}, {threads} threads"
                    )
