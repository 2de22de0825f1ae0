# SPDX-License-Identifier: Apache-2.0
"""MatMul of two activations as QLinearMatMul."""

from __future__ import annotations

from edgekit.export.builder import Builder, identity
from edgekit.program import MatMul


def matmul(b: Builder, op: MatMul) -> None:
    inputs = []
    for name in op.inputs:
        quant = b.quant(name)
        inputs += [b.read(name, identity(len(b.shape(name)))), b.scale(quant.scale), b.zero(quant.zero_point)]
    y = b.quant(op.outputs[0])
    layout = identity(len(b.shape(op.outputs[0])))
    b.write(op, "QLinearMatMul", [*inputs, b.scale(y.scale), b.zero(y.zero_point)], layout, op.lo, op.hi)
