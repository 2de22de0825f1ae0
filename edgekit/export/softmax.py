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
    k = b.node("Div", [b.scale(inverse_scale(b.program, op)), b.node("Cast", [total], to=TensorProto.FLOAT)])
    real = b.node("Mul", [b.node("Cast", [t], to=TensorProto.FLOAT), k])
    b.write_rounded(op, real, layout, op.lo, op.hi)
