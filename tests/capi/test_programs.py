# SPDX-License-Identifier: Apache-2.0
"""Every operator, packing of weights, kernel set and number of threads gives the reference's bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from edgekit import program as p
from edgekit.format.writer import Packing, write
from edgekit.plan.planner import plan
from edgekit.reference.executor import run as reference
from edgekit.runtime import kernels as kernel_sets
from edgekit.runtime.capi import ffi, lib
from tests.capi.net import File, Library, Net
from tests.support import OPERATORS, Build, Random

PACKINGS = {
    "dense": Packing(sparse_below=0),
    "interleaved": Packing(tile=(8, 4), sparse_below=0),
    "narrow": Packing(tile=(1, 16), sparse_below=0),
    "paired": Packing(paired=True, sparse_below=0),
    "sparse": Packing(sparse_below=100),
}
WEIGHTED = ("conv2d", "depthwise_conv2d", "dense")


def words() -> Iterator[int]:
    """ek_kernels: each set of this processor, with and without EK_REPACK."""
    for name in kernel_sets.available():
        yield kernel_sets.mask(name)
        yield kernel_sets.mask(name) | lib.EK_REPACK


def packings(operator: str) -> dict[str, Packing]:
    return PACKINGS if operator in WEIGHTED else {"dense": PACKINGS["dense"]}


def thin_out(program: p.Program, r: Random) -> None:
    """Sets most weights to zero."""
    for tensor in program.tensors.values():
        if tensor.data is not None and tensor.quant is None:
            keep = r.rng.random(tensor.data.shape) < r.rng.choice([0.0, 0.1, 0.5, 1.0])
            tensor.data = np.where(keep, tensor.data, 0).astype(np.int8)


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_packing_and_kernel_set_equals_the_reference(operator: str, seed: int) -> None:
    for offset in range(12):
        r = Random(seed + offset)
        program = OPERATORS[operator](r)
        thin_out(program, r)
        plan(program)
        samples = r.samples(program, 2)
        expected = [reference(program, sample) for sample in samples]
        for label, packing in packings(operator).items():
            data = write(program, packing=packing)
            for word in words():
                net = Net(data, word)
                for sample, want in zip(samples, expected, strict=True):
                    got = net.run(sample)
                    for name, array in got.items():
                        where = f"seed {seed + offset}, {label}, kernels {word:#x}, {program.ops[0]}"
                        np.testing.assert_array_equal(array, want[name], where)


# ---- Weights in several tiles, and threads ---------------------------------------------------------


def large(operator: str, r: Random) -> p.Program:
    """Weights beyond one tile of scratch, and enough work for several parts per thread."""
    b = Build()
    clamp = {"lo": -128, "hi": 127}
    if operator == "conv2d":
        groups = r.int(1, 3)
        depth, size = r.int(20, 40), r.int(17, 40)
        x = b.input((2, 9, 9, groups * depth), r.quant(0.1))
        w, shape = r.weights(groups * size, 3, 3, depth), (2, 9, 9, groups * size)
        fields = {"groups": groups, "pads": (1, 1, 1, 1)}
        return b.finish(_layer(b, r, p.Conv2D, x, w, shape, groups * size, 9 * depth, **fields, **clamp))
    if operator == "depthwise_conv2d":
        c, mult = r.int(150, 300), r.int(1, 3)
        x = b.input((1, 12, 12, c), r.quant(0.1))
        w, shape = r.weights(5, 5, c * mult), (1, 12, 12, c * mult)
        fields = {"pads": (2, 2, 2, 2)}
        return b.finish(_layer(b, r, p.DepthwiseConv2D, x, w, shape, c * mult, 25, **fields, **clamp))
    k, o = r.int(300, 700), r.int(100, 200)
    x = b.input((3, k), r.quant(0.1))
    return b.finish(_layer(b, r, p.Dense, x, r.weights(o, k), (3, o), o, k, **clamp))


def _layer(
    b: Build, r: Random, cls: type[p.Op], x: str, w: np.ndarray, shape: tuple[int, ...], channels: int,
    depth: int, **fields: object,
) -> str:  # fmt: skip
    scale = r.weight_scale(channels)
    bias = r.rng.integers(-depth * 500, depth * 500, channels).astype(np.int32)
    y = r.quant(float(np.median(scale)) * 4 * np.sqrt(depth))
    return b.op(cls, [x, b.constant(w)], shape, y, bias=bias, weight_scale=scale, **fields)


@pytest.mark.parametrize("operator", WEIGHTED)
def test_large_weights_in_tiles_and_threads(operator: str, seed: int, library: Library) -> None:
    r = Random(seed)
    program = large(operator, r)
    thin_out(program, r)
    plan(program)
    (sample, *_) = r.samples(program, 1)
    (want,) = reference(program, sample).values()
    for label, packing in PACKINGS.items():
        data = write(program, packing=packing)
        for word in words():
            for threads in (1, 2, 5):
                with library.pool(threads) as (parallel_for, context):
                    net = Net(data, word, threads, parallel_for, context)
                    (got,) = net.run(sample).values()
                where = f"seed {seed}, {label}, kernels {word:#x}, {threads} threads, {program.ops[0]}"
                np.testing.assert_array_equal(got, want, where)


@pytest.mark.parametrize("operator", WEIGHTED)
@pytest.mark.parametrize("label", PACKINGS)
def test_scratch_of_scalar_stays_small(operator: str, label: str, seed: int) -> None:
    """8 KB per thread, decoded weights included; interleaved and sparse weights need no copy of all of them."""
    program = large(operator, Random(seed))
    plan(program)
    file = File(write(program, packing=PACKINGS[label]))
    assert file.status == lib.EK_OK
    assert lib.ek_scratch_needed(file.model, lib.EK_KERNELS_SCALAR) <= 8192


def test_tasks_are_done_once_each_and_by_one_thread_at_a_time(library: Library) -> None:
    """The pool, as a loop of its own: 200 rounds of parts that count themselves."""
    counts = np.zeros(37, np.int64)
    threads_seen: set[int] = set()

    @ffi.callback("ek_task")
    def task(_: Any, index: int, thread: int) -> None:
        counts[index] += 1
        threads_seen.add(thread)

    with library.pool(4) as (parallel_for, context):
        for _ in range(200):
            parallel_for(context, task, ffi.NULL, len(counts))
        parallel_for(context, task, ffi.NULL, 0)
    assert (counts == 200).all()
    assert threads_seen <= set(range(4))
