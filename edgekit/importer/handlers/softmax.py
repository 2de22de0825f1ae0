# SPDX-License-Identifier: Apache-2.0
"""Softmax."""

from __future__ import annotations

import math

from edgekit.importer.context import Context, OnnxNode
from edgekit.importer.registry import Unsupported, handler


@handler("Softmax", becomes="Softmax, with Transpose or Reshape around it")
def softmax(ctx: Context, node: OnnxNode) -> None:
    """Over one axis; before opset 13 over all dimensions from `axis` on."""
    x, y = node.inputs[0], node.output
    shape = ctx.shape(x)
    rank = len(shape)
    axis = int(node.attrs.get("axis", -1 if node.opset >= 13 else 1))
    if not -rank <= axis < rank:
        raise Unsupported(f"axis {axis} is outside its {rank} dimensions", "export the model again")
    axis %= rank
    if node.opset < 13 and math.prod(shape[axis + 1 :]) != 1:
        matrix = (math.prod(shape[:axis]), math.prod(shape[axis:]))
        ctx.give(y, "Softmax", [ctx.take(x, shape=matrix)], shape=matrix)
        return
    perm = (*(i for i in range(rank) if i != axis), axis)
    ctx.give(y, "Softmax", [ctx.take(x, perm)], perm=perm)
