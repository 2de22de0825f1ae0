# SPDX-License-Identifier: Apache-2.0
"""Softmax, spelled out: table look-up, exact int32 sum, one division, one product."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from edgekit.export.builder import Builder
from edgekit.program import Softmax, inverse_scale


def softmax(b: Builder, op: Softmax) -> None:
    layout = b.perm(op.inputs[0])
    axis = layout.index(len(layout) - 1)
    q = b.node("Cast", [b.read(op.inputs[0], layout)], to=TensorProto.INT32)
    distance = b.node("Sub", [b.node("ReduceMax", [q], axes=[axis], keepdims=1), q])
    t = b.node("Gather", [b.constant(op.table.astype(np.int32), f"{op.outputs[0]}_table"), distance])
    total = b.node("ReduceSum", [t, b.ints([axis])], keepdims=1)
    inverse, entry = inverse_scale(b.program, op), b.node("Cast", [t], to=TensorProto.FLOAT)
    if inverse == 1:
        # ONNX Runtime makes a single division, with one rounding, of 1 / sum and a product with it. Twice the
        # factor times half the entry is the same, and it leaves that alone.
        inverse, entry = np.float32(2), b.node("Mul", [entry, b.scale(0.5)])
    k = b.node("Div", [b.scale(inverse), b.node("Cast", [total], to=TensorProto.FLOAT)])
    real = b.node("Mul", [entry, k])
    b.write_rounded(op, real, layout, op.lo, op.hi)
