# SPDX-License-Identifier: Apache-2.0
"""Add, Mul, Lut and PRelu, spelled out in float steps of which each rounds once.

ONNX Runtime's own QLinearAdd and QLinearMul fuse the multiplication and the addition, and its optimizer
makes them of DequantizeLinear, Add, QuantizeLinear. Cast, Sub, Mul, Add it leaves alone.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from edgekit.export.builder import Builder, Perm, identity
from edgekit.program import Add, Lut, Mul, PRelu, prelu_multipliers, product_multiplier, sum_multipliers


def add(b: Builder, op: Add) -> None:
    layout = _layout(b, op)
    terms = [
        b.node("Mul", [b.centered(_operand(b, op, name, layout), b.quant(name).zero_point), b.scale(m)])
        for name, m in zip(op.inputs, sum_multipliers(b.program, op), strict=True)
    ]
    b.write_rounded(op, b.node("Add", terms), layout, op.lo, op.hi)


def mul(b: Builder, op: Mul) -> None:
    layout = _layout(b, op)
    factors = [b.centered(_operand(b, op, name, layout), b.quant(name).zero_point) for name in op.inputs]
    product = b.node("Mul", [b.node("Mul", factors), b.scale(product_multiplier(b.program, op))])
    b.write_rounded(op, product, layout, op.lo, op.hi)


def lut(b: Builder, op: Lut) -> None:
    """Gather counts negative indexes from the end, so the table starts with the entry of q = 0."""
    layout = b.perm(op.inputs[0])
    table = b.constant(np.roll(op.table.astype(np.int8), 128), f"{op.outputs[0]}_table")
    index = b.node("Cast", [b.read(op.inputs[0], layout)], to=TensorProto.INT32)
    b.write(op, "Gather", [table, index], layout)


def prelu(b: Builder, op: PRelu) -> None:
    layout = b.perm(op.inputs[0])
    positive, negative = prelu_multipliers(b.program, op)
    per_channel = negative.reshape([-1 if d == len(layout) - 1 else 1 for d in layout])
    d = b.centered(b.read(op.inputs[0], layout), b.quant(op.inputs[0]).zero_point)
    is_positive = b.node("GreaterOrEqual", [d, b.scale(0)])
    m = b.node("Where", [is_positive, b.scale(positive), b.constant(per_channel, f"{op.outputs[0]}_slope")])
    b.write_rounded(op, b.node("Mul", [d, m]), layout, op.lo, op.hi)


def _layout(b: Builder, op: Add | Mul) -> Perm:
    """The layout of the first operand that is computed and has the result's rank."""
    rank = len(b.shape(op.outputs[0]))
    full = [name for name in op.inputs if b.tensor(name).data is None and len(b.shape(name)) == rank]
    return b.perm(full[0]) if full else identity(rank)


def _operand(b: Builder, op: Add | Mul, name: str, layout: Perm) -> str:
    """Operand `name` in `layout`, with leading dimensions of 1 where its rank is lower."""
    shape, rank = b.shape(name), len(layout)
    if len(shape) == rank:
        return b.read(name, layout)
    wide = (1,) * (rank - len(shape)) + shape
    data = b.tensor(name).data
    if data is not None:
        return b.constant(data.reshape(wide).transpose(layout), name)
    reshaped = b.reshape(b.read_flat(name), wide)
    return reshaped if layout == identity(rank) else b.node("Transpose", [reshaped], perm=list(layout))
