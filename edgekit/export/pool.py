# SPDX-License-Identifier: Apache-2.0
"""Pooling on 8-bit data: MaxPool as it is, averages as exact integer sums."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from edgekit.export.builder import NCHW, Builder
from edgekit.program import AveragePool, MaxPool
from edgekit.reference.executor import pool_multipliers
from edgekit.reference.window import span


def max_pool(b: Builder, op: MaxPool) -> None:
    """ONNX Runtime refuses padding as large as the kernel; a Pad with the lowest value is the same."""
    x, pads = b.read(op.inputs[0], NCHW), _pads(b, op)
    if any(pad >= op.kernel[i % 2] for i, pad in enumerate(pads)):
        top, left, bottom, right = pads
        x = b.node("Pad", [x, b.ints([0, 0, top, left, 0, 0, bottom, right]), b.zero(-128)])
        pads = [0, 0, 0, 0]
    b.write(
        op,
        "MaxPool",
        [x],
        NCHW,
        kernel_shape=list(op.kernel),
        strides=list(op.strides),
        dilations=list(op.dilations),
        pads=pads,
    )


def average_pool(b: Builder, op: AveragePool) -> None:
    """ONNX Runtime's QLinearAveragePool fuses multiply and add; an integer sum and one product do not."""
    if _is_global(b, op):
        _global_average(b, op)
    else:
        _windowed_average(b, op)


def _is_global(b: Builder, op: AveragePool) -> bool:
    _, h, w, _ = b.shape(op.inputs[0])
    _, oh, ow, _ = b.shape(op.outputs[0])
    return (oh, ow) == (1, 1) and op.kernel == (h, w) and op.dilations == (1, 1) and op.pads == (0, 0, 0, 0)


def _global_average(b: Builder, op: AveragePool) -> None:
    layout, x = b.perm(op.inputs[0]), op.inputs[0]
    n, zero = op.kernel[0] * op.kernel[1], b.quant(x).zero_point
    wide = b.node("Cast", [b.read(x, layout)], to=TensorProto.INT32)
    axes = b.ints([layout.index(1), layout.index(2)])
    total = b.node("ReduceSum", [wide, axes], keepdims=1)
    acc = b.node("Sub", [total, b.constant(np.array(n * zero, np.int32), "offset")])
    real = b.node("Cast", [acc], to=TensorProto.FLOAT)
    m = b.scale(pool_multipliers(b.program, op)[0, 0])
    b.write_rounded(op, b.node("Mul", [real, m]), layout, op.lo, op.hi)


def _windowed_average(b: Builder, op: AveragePool) -> None:
    """ConvInteger with weights of 1: it subtracts the zero point, and its padding adds nothing.

    ONNX Runtime has it for uint8 alone until 1.24, so a table turns q into q + 128. The products of
    uint8 and 1 are far from saturating anywhere.
    """
    x, channels = op.inputs[0], b.shape(op.inputs[0])[3]
    shifted = np.roll(np.arange(256, dtype=np.uint8), 128)
    index = b.node("Cast", [b.read(x, NCHW)], to=TensorProto.INT32)
    acc = b.node(
        "ConvInteger",
        [
            b.node("Gather", [b.constant(shifted, "shifted"), index]),
            b.constant(np.ones((channels, 1, *op.kernel), np.uint8), "ones"),
            b.constant(np.array(b.quant(x).zero_point + 128, np.uint8), "zero"),
        ],
        group=channels,
        kernel_shape=list(op.kernel),
        strides=list(op.strides),
        dilations=list(op.dilations),
        pads=_pads(b, op),
    )
    real = b.node("Cast", [acc], to=TensorProto.FLOAT)
    m = b.constant(pool_multipliers(b.program, op)[np.newaxis, np.newaxis], f"{op.outputs[0]}_multiplier")
    b.write_rounded(op, b.node("Mul", [real, m]), NCHW, op.lo, op.hi)


def _pads(b: Builder, op: MaxPool | AveragePool) -> list[int]:
    """Padding at the end that gives exactly the output's size, which ceil_mode makes larger than `op.pads` does."""
    (_, h, w, _), (_, oh, ow, _) = b.shape(op.inputs[0]), b.shape(op.outputs[0])
    top, left, _, _ = op.pads
    need_h = span(oh, op.strides[0], op.dilations[0], op.kernel[0])
    need_w = span(ow, op.strides[1], op.dilations[1], op.kernel[1])
    return [top, left, max(need_h - top - h, 0), max(need_w - left - w, 0)]
