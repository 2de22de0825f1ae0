# SPDX-License-Identifier: Apache-2.0
"""Layer normalization, spelled out: exact sums in int32 and int64, then one binary32 operation per node."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from edgekit.export.builder import Builder
from edgekit.program import LayerNorm


def layer_norm(b: Builder, op: LayerNorm) -> None:
    """ONNX Runtime makes a single division of 1 / r and a product with it, which rounds once where there are two
    roundings. Of 2 / r it does not, and twice the factor with half the gains gives the same bits."""
    layout = b.perm(op.inputs[0])
    axis, n = layout.index(len(layout) - 1), len(op.gain)
    along = tuple(n if d == axis else 1 for d in range(len(layout)))
    count, axes = b.constant(np.array(n, np.int32)), b.ints([axis])

    q = b.node("Cast", [b.read(op.inputs[0], layout)], to=TensorProto.INT32)
    total = b.node("ReduceSum", [q, axes], keepdims=1)
    centered = b.node("Sub", [b.node("Mul", [q, count]), total])
    k = b.node("Div", [b.scale(2), _deviation(b, op, q, total, axes)])
    normal = b.node("Mul", [b.node("Cast", [centered], to=TensorProto.FLOAT), k])
    scaled = b.node("Mul", [normal, b.constant(op.gain.astype(np.float32).reshape(along) / 2, "gain")])
    real = b.node("Add", [scaled, b.constant(op.offset.astype(np.float32).reshape(along), "offset")])
    b.write_rounded(op, real, layout, op.lo, op.hi)


def _deviation(b: Builder, op: LayerNorm, q: str, total: str, axes: str) -> str:
    """`sqrt(v + epsilon)`. Squares sum up to 2^30; what is n times as large needs int64."""
    squares = b.node("ReduceSum", [b.node("Mul", [q, q]), axes], keepdims=1)
    squares, total = (b.node("Cast", [name], to=TensorProto.INT64) for name in (squares, total))
    scaled = b.node("Mul", [squares, b.constant(np.array(len(op.gain), np.int64))])
    v = b.node("Sub", [scaled, b.node("Mul", [total, total])])
    return b.node("Sqrt", [b.node("Add", [b.node("Cast", [v], to=TensorProto.FLOAT), b.scale(op.epsilon)])])
