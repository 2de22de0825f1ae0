# SPDX-License-Identifier: Apache-2.0
"""Products of two activations as QLinearMatMul."""

from __future__ import annotations

from edgekit.export.builder import Builder, Perm, identity
from edgekit.program import MatMul, MatMulTransposed


def matmul(b: Builder, op: MatMul) -> None:
    _product(b, op, identity(len(b.shape(op.inputs[1]))))


def matmul_transposed(b: Builder, op: MatMulTransposed) -> None:
    """A reader of the second factor takes it in another layout: by a Transpose, if need be."""
    *batch, rows, depth = identity(len(b.shape(op.inputs[1])))
    _product(b, op, (*batch, depth, rows))


def _product(b: Builder, op: MatMul, second: Perm) -> None:
    inputs = []
    for name, layout in zip(op.inputs, (identity(len(b.shape(op.inputs[0]))), second), strict=True):
        quant = b.quant(name)
        inputs += [b.read(name, layout), b.scale(quant.scale), b.zero(quant.zero_point)]
    y = b.quant(op.outputs[0])
    layout = identity(len(b.shape(op.outputs[0])))
    b.write(op, "QLinearMatMul", [*inputs, b.scale(y.scale), b.zero(y.zero_point)], layout, op.lo, op.hi)
