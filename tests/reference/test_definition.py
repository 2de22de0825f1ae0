# SPDX-License-Identifier: Apache-2.0
"""The reference's vectorized sums against plain loops over single elements."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from edgekit import program as p
from edgekit.reference.executor import run
from edgekit.reference.rounding import requantize
from tests.support import OPERATORS, Random

SEEDS = range(12)


def only(program: p.Program, r: Random) -> tuple[p.Op, list[np.ndarray], np.ndarray]:
    """The program's operator, its input arrays and the reference's output."""
    (op,) = program.ops
    sample = r.samples(program, 1)[0]
    arrays = [sample[n] if n in sample else program.tensors[n].data for n in op.inputs]
    return op, arrays, run(program, sample)[op.outputs[0]]


def taps(
    op: p.Conv2D, shape: tuple[int, ...], kernel: p.Pair, i: int, j: int
) -> list[tuple[int, int, int, int]]:
    """(kernel row, kernel column, input row, input column) of output (i, j), inside the image only."""
    _, h, w, _ = shape
    found = []
    for k, m in product(range(kernel[0]), range(kernel[1])):
        row = i * op.strides[0] - op.pads[0] + k * op.dilations[0]
        col = j * op.strides[1] - op.pads[1] + m * op.dilations[1]
        if 0 <= row < h and 0 <= col < w:
            found.append((k, m, row, col))
    return found


def finish(program: p.Program, op: p.Op, acc: np.ndarray, multiplier: np.ndarray) -> np.ndarray:
    zero = program.tensors[op.outputs[0]].quant.zero_point
    return requantize(acc.astype(np.int32), multiplier, zero, op.lo, op.hi)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("operator", ["conv2d", "depthwise_conv2d"])
def test_convolution(operator: str, seed: int) -> None:
    program = OPERATORS[operator](r := Random(seed))
    op, (x, w), y = only(program, r)
    zero = program.tensors[op.inputs[0]].quant.zero_point
    depthwise = isinstance(op, p.DepthwiseConv2D)
    kernel = w.shape[:2] if depthwise else w.shape[1:3]
    acc = np.zeros(y.shape, np.int64)
    for n, i, j, o in np.ndindex(y.shape):
        total = int(op.bias[o])
        for k, m, row, col in taps(op, x.shape, kernel, i, j):
            if depthwise:
                total += (int(x[n, row, col, o // (y.shape[3] // x.shape[3])]) - zero) * int(w[k, m, o])
            else:
                first = o // (y.shape[3] // op.groups) * w.shape[3]
                pixel = x[n, row, col, first : first + w.shape[3]]
                total += sum((int(a) - zero) * int(b) for a, b in zip(pixel, w[o, k, m], strict=True))
        acc[n, i, j, o] = total
    np.testing.assert_array_equal(y, finish(program, op, acc, p.multiplier(program, op)))


@pytest.mark.parametrize("seed", SEEDS)
def test_dense(seed: int) -> None:
    program = OPERATORS["dense"](r := Random(seed))
    op, (x, w), y = only(program, r)
    zero = program.tensors[op.inputs[0]].quant.zero_point
    acc = np.array(
        [
            int(op.bias[at[-1]])
            + sum((int(a) - zero) * int(b) for a, b in zip(x[at[:-1]], w[at[-1]], strict=True))
            for at in np.ndindex(y.shape)
        ]
    ).reshape(y.shape)
    np.testing.assert_array_equal(y, finish(program, op, acc, p.multiplier(program, op)))


@pytest.mark.parametrize("seed", SEEDS)
def test_max_pool(seed: int) -> None:
    program = OPERATORS["max_pool"](r := Random(seed))
    op, (x,), y = only(program, r)
    for n, i, j, c in np.ndindex(y.shape):
        inside = [int(x[n, row, col, c]) for _, _, row, col in taps(op, x.shape, op.kernel, i, j)]
        assert y[n, i, j, c] == max(inside, default=-128)


@pytest.mark.parametrize("seed", SEEDS)
def test_average_pool(seed: int) -> None:
    program = OPERATORS["average_pool"](r := Random(seed))
    op, (x,), y = only(program, r)
    sx, zero = program.tensors[op.inputs[0]].quant.scale, program.tensors[op.inputs[0]].quant.zero_point
    sy = program.tensors[op.outputs[0]].quant.scale
    top, left, bottom, right = op.pads
    padded = (1, x.shape[1] + top + bottom, x.shape[2] + left + right, 1)
    unpadded = p.MaxPool("", [], [], op.kernel, op.strides, op.dilations)
    for n, i, j, c in np.ndindex(y.shape):
        inside = taps(op, x.shape, op.kernel, i, j)
        count = len(taps(unpadded, padded, op.kernel, i, j) if op.count_include_pad else inside)
        if not count:
            assert y[n, i, j, c] == op.lo
            continue
        acc = np.array(sum(int(x[n, row, col, c]) - zero for _, _, row, col in inside))
        multiplier = np.float32(sx / np.float32(sy * np.float32(count)))
        assert y[n, i, j, c] == finish(program, op, acc, multiplier)
