# SPDX-License-Identifier: Apache-2.0
"""Conv2D and DepthwiseConv2D as QLinearConv, Dense as a QLinearConv of one tap."""

from __future__ import annotations

import numpy as np

from edgekit.export.builder import NCHW, Builder, identity
from edgekit.program import Accumulate, Conv2D, Dense, DepthwiseConv2D


def conv2d(b: Builder, op: Conv2D) -> None:
    w = b.data(op.inputs[1]).transpose(NCHW)
    _convolution(b, op, w, op.groups)


def depthwise_conv2d(b: Builder, op: DepthwiseConv2D) -> None:
    w = b.data(op.inputs[1]).transpose(2, 0, 1)[:, np.newaxis]
    groups = b.shape(op.inputs[0])[3]
    _convolution(b, op, w, groups)


def dense(b: Builder, op: Dense) -> None:
    """QLinearMatMul has no bias and QGemm is not ai.onnx. Rows become columns of an image one pixel high."""
    w = b.data(op.inputs[1])
    (o, k), y = w.shape, op.outputs[0]
    rows = b.tensor(y).size // o
    x = b.read_flat(op.inputs[0])
    image = b.reshape(x, (1, k, 1, 1)) if rows == 1 else _pixels(b, x, rows, k)
    image = b.node("QLinearConv", _inputs(b, op, image, w[:, :, np.newaxis, np.newaxis]), kernel_shape=[1, 1])
    if rows > 1:
        image = b.node("Transpose", [image], perm=[0, 2, 3, 1])
    shape = b.shape(y)
    b.write(op, "Reshape", [image, b.ints(shape)], identity(len(shape)), op.lo, op.hi)


def _pixels(b: Builder, x: str, rows: int, k: int) -> str:
    """x[rows, k] as an NCHW image [1, k, 1, rows]."""
    return b.node("Transpose", [b.reshape(x, (1, 1, rows, k))], perm=list(NCHW))


def _convolution(b: Builder, op: Conv2D | DepthwiseConv2D, w: np.ndarray, groups: int) -> None:
    """`w` as ONNX has it: [O, C / groups, KH, KW]."""
    inputs = _inputs(b, op, b.read(op.inputs[0], NCHW), w)
    window = {
        "kernel_shape": list(w.shape[2:]),
        "strides": list(op.strides),
        "dilations": list(op.dilations),
        "pads": list(op.pads),
    }
    b.write(op, "QLinearConv", inputs, NCHW, op.lo, op.hi, group=groups, **window)


def _inputs(b: Builder, op: Accumulate, x: str, w: np.ndarray) -> list[str]:
    sx, sy = b.quant(op.inputs[0]), b.quant(op.outputs[0])
    return [
        x,
        b.scale(sx.scale),
        b.zero(sx.zero_point),
        b.constant(w, op.inputs[1]),
        b.constant(op.weight_scale.astype(np.float32), f"{op.inputs[1]}_scale"),
        b.constant(np.zeros(len(w), np.int8), "weight_zero"),
        b.scale(sy.scale),
        b.zero(sy.zero_point),
        b.constant(op.bias.astype(np.int32), f"{op.inputs[1]}_bias"),
    ]
