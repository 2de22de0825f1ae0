# SPDX-License-Identifier: Apache-2.0
"""Each integer operator is within one step of the real operator on in-range data.

This holds the shared arithmetic itself to account: that all backends agree says nothing about what
they agree on. The real operator is computed in binary64 on the dequantized inputs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import softmax as real_softmax

from edgekit import program as p
from edgekit.reference.executor import pool_multipliers, run
from tests.support import OPERATORS, Random

Real = Callable[[p.Program, list[np.ndarray]], np.ndarray]
SEEDS = range(20)


def value(program: p.Program, name: str, q: np.ndarray) -> np.ndarray:
    quant = program.tensors[name].quant
    return np.float64(quant.scale) * (q.astype(np.float64) - quant.zero_point)


def real_accumulate(program: p.Program, op: p.Accumulate, x: np.ndarray) -> np.ndarray:
    """Weights and biases as the real numbers that they stand for; zeros around the image."""
    w = program.tensors[op.inputs[1]].data.astype(np.float64)
    scale = op.weight_scale.astype(np.float64)
    bias = op.bias * np.float64(program.tensors[op.inputs[0]].quant.scale) * scale
    if isinstance(op, p.Dense):
        return x @ (w * scale[:, None]).T + bias
    if isinstance(op, p.DepthwiseConv2D):
        return real_depthwise(op, x, w * scale, program.tensors[op.outputs[0]].shape) + bias
    return (
        real_convolution(op, x, w * scale[:, None, None, None], program.tensors[op.outputs[0]].shape) + bias
    )


def tap(op: p.Conv2D, padded: np.ndarray, k: int, m: int, shape: tuple[int, ...]) -> np.ndarray:
    """What kernel position (k, m) sees for every output position."""
    rows = k * op.dilations[0] + op.strides[0] * np.arange(shape[1])
    cols = m * op.dilations[1] + op.strides[1] * np.arange(shape[2])
    return padded[:, rows][:, :, cols]


def real_convolution(op: p.Conv2D, x: np.ndarray, w: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    top, left, bottom, right = op.pads
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    y = np.zeros(shape)
    size, depth = shape[3] // op.groups, w.shape[3]
    for k, m, g in np.ndindex(w.shape[1], w.shape[2], op.groups):
        seen = tap(op, padded, k, m, shape)[..., g * depth : (g + 1) * depth]
        y[..., g * size : (g + 1) * size] += seen @ w[g * size : (g + 1) * size, k, m].T
    return y


def real_depthwise(op: p.DepthwiseConv2D, x: np.ndarray, w: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    top, left, bottom, right = op.pads
    padded = np.pad(
        np.repeat(x, shape[3] // x.shape[3], axis=3), ((0, 0), (top, bottom), (left, right), (0, 0))
    )
    return sum(tap(op, padded, k, m, shape) * w[k, m] for k, m in np.ndindex(*w.shape[:2]))


def real_average(program: p.Program, op: p.AveragePool, x: np.ndarray) -> np.ndarray:
    shape = program.tensors[op.outputs[0]].shape
    room = (
        (0, 0),
        *((before, before + after + 9) for before, after in zip(op.pads[:2], op.pads[2:], strict=True)),
        (0, 0),
    )
    padded = np.pad(x, room)
    total = sum(tap(op, padded, k, m, shape) for k, m in np.ndindex(*op.kernel))
    sx, sy = (np.float64(program.tensors[n].quant.scale) for n in (*op.inputs, *op.outputs))
    n = np.rint(sx / sy / pool_multipliers(program, op).astype(np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        return total / n[:, :, None]


def real_layer_norm(program: p.Program, op: p.LayerNorm, x: np.ndarray) -> np.ndarray:
    sx, sy = (np.float64(program.tensors[n].quant.scale) for n in (*op.inputs, *op.outputs))
    epsilon = np.float64(op.epsilon) * (sx / x.shape[-1]) ** 2
    normal = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + epsilon)
    return (normal * op.gain + op.offset) * sy


def real(program: p.Program, op: p.Op, xs: list[np.ndarray]) -> np.ndarray:
    """The operator over the reals."""
    if isinstance(op, p.Accumulate):
        return real_accumulate(program, op, xs[0])
    if isinstance(op, p.AveragePool):
        return real_average(program, op, xs[0])
    if isinstance(op, p.PRelu):
        return np.where(xs[0] >= 0, xs[0], xs[0] * op.slope.astype(np.float64))
    if isinstance(op, p.Softmax):
        return real_softmax(xs[0], axis=-1)
    if isinstance(op, p.LayerNorm):
        return real_layer_norm(program, op, xs[0])
    if isinstance(op, p.MatMulTransposed):
        return xs[0] @ np.swapaxes(xs[1], -1, -2)
    if isinstance(op, p.MatMul):
        return xs[0] @ xs[1]
    if isinstance(op, p.Mul):
        return xs[0] * xs[1]
    assert isinstance(op, p.Add)
    return xs[0] - xs[1] if op.subtract else xs[0] + xs[1]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "operator",
    [
        "conv2d",
        "depthwise_conv2d",
        "dense",
        "matmul",
        "matmul_transposed",
        "add",
        "mul",
        "average_pool",
        "global_average_pool",
        "prelu",
        "softmax",
        "layer_norm",
    ],
)
def test_within_one_step(operator: str, seed: int) -> None:
    program = OPERATORS[operator](r := Random(seed))
    (op,) = program.ops
    quant = program.tensors[op.outputs[0]].quant
    step, zero = np.float64(quant.scale), quant.zero_point
    compared = 0
    for sample in r.samples(program):
        data = {n: sample[n] if n in sample else program.tensors[n].data for n in op.inputs}
        activations = [n for n in op.inputs if program.tensors[n].quant is not None]
        expected = real(program, op, [value(program, n, data[n]) for n in activations])
        got = value(program, op.outputs[0], run(program, sample)[op.outputs[0]])
        clamped = np.clip(expected, step * (op.lo - zero), step * (op.hi - zero))
        defined = np.isfinite(expected)
        np.testing.assert_array_less(np.abs(got - clamped)[defined], step)
        compared += int(defined.sum())
    assert compared or operator == "average_pool"
