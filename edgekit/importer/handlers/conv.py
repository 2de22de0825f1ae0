# SPDX-License-Identifier: Apache-2.0
"""Convolutions."""

from __future__ import annotations

import numpy as np

from edgekit.importer.context import Attrs, Context, OnnxNode
from edgekit.importer.handlers.window import image_view, window
from edgekit.importer.registry import Unsupported, handler


@handler(
    "Conv",
    becomes="Conv, DepthwiseConv",
    restrictions="1-D and 2-D; weights and bias are constants",
)
def conv(ctx: Context, node: OnnxNode) -> None:
    """[N,C,H,W] * [O,C/groups,KH,KW] or [N,C,L] * [O,C/groups,K]."""
    x, y = node.inputs[0], node.output
    w = ctx.require_constant(node.inputs[1], "weight")
    groups = int(node.attrs.get("group", 1))
    x_perm, x_shape = image_view(ctx, x)
    y_perm, y_shape = image_view(ctx, y)
    _check(w, groups, ctx.rank(x), x_shape[3])
    win = window(node, w.shape[2:], w.ndim - 2)
    w = w[:, :, None, :] if w.ndim == 3 else w
    bias = np.zeros(w.shape[0], np.float32)
    if node.input(2):
        bias = ctx.require_constant(node.inputs[2], "bias").reshape(-1)
    attrs: Attrs = {"strides": win.strides, "dilations": win.dilations, "pads": win.pads}
    if groups == x_shape[3] and groups > 1:
        op, w = "DepthwiseConv", w[:, 0].transpose(1, 2, 0)
    else:
        op, w = "Conv", w.transpose(0, 2, 3, 1)
        attrs["groups"] = groups
    inputs = [
        ctx.take(x, x_perm, x_shape),
        ctx.add_constant(node.inputs[1], w),
        ctx.add_constant(f"{y}.bias", bias),
    ]
    ctx.give(y, op, inputs, attrs, perm=y_perm, shape=y_shape)


def _check(w: np.ndarray, groups: int, rank: int, channels: int) -> None:
    fits = groups >= 1 and w.ndim == rank and w.shape[1] * groups == channels and w.shape[0] % groups == 0
    if not fits or w.size == 0:
        raise Unsupported(
            f"weight {list(w.shape)} in {groups} group(s) does not fit {channels} input channels",
            "export the model again",
        )
