# SPDX-License-Identifier: Apache-2.0
"""Pooling."""

from __future__ import annotations

from edgekit.importer.context import Attrs, Context, OnnxNode
from edgekit.importer.handlers.window import image_view, window
from edgekit.importer.registry import Unsupported, handler


@handler(
    "MaxPool",
    becomes="MaxPool",
    restrictions="1-D and 2-D; the indices output is not used",
)
def max_pool(ctx: Context, node: OnnxNode) -> None:
    if len(node.outputs) > 1 and node.outputs[1]:
        raise Unsupported("its second output, Indices, is used", "MaxUnpool and the like are not supported")
    _pool(ctx, node, "MaxPool")


@handler("AveragePool", becomes="AveragePool", restrictions="1-D and 2-D")
def average_pool(ctx: Context, node: OnnxNode) -> None:
    _pool(ctx, node, "AveragePool")


def _pool(ctx: Context, node: OnnxNode, op: str) -> None:
    x, y = node.inputs[0], node.output
    x_perm, x_shape = image_view(ctx, x)
    y_perm, y_shape = image_view(ctx, y)
    win = window(node, node.attrs["kernel_shape"], ctx.rank(x) - 2)
    attrs: Attrs = {
        "kernel": win.kernel,
        "strides": win.strides,
        "dilations": win.dilations,
        "pads": win.pads,
    }
    if op == "AveragePool":
        attrs["count_include_pad"] = bool(node.attrs.get("count_include_pad", 0)) and any(win.pads)
    ctx.give(y, op, [ctx.take(x, x_perm, x_shape)], attrs, perm=y_perm, shape=y_shape)


@handler("GlobalAveragePool", becomes="AveragePool over the full window", restrictions="1-D and 2-D")
def global_average_pool(ctx: Context, node: OnnxNode) -> None:
    _global_pool(ctx, node, "AveragePool", count_include_pad=False)


@handler("GlobalMaxPool", becomes="MaxPool over the full window", restrictions="1-D and 2-D")
def global_max_pool(ctx: Context, node: OnnxNode) -> None:
    _global_pool(ctx, node, "MaxPool")


def _global_pool(ctx: Context, node: OnnxNode, op: str, **more: bool) -> None:
    x, y = node.inputs[0], node.output
    x_perm, x_shape = image_view(ctx, x)
    y_perm, y_shape = image_view(ctx, y)
    attrs = full_window(x_shape[1:3]) | more
    ctx.give(y, op, [ctx.take(x, x_perm, x_shape)], attrs, perm=y_perm, shape=y_shape)


def full_window(size: tuple[int, ...]) -> Attrs:
    """Attributes of a pool that covers [H,W] once."""
    return {"kernel": tuple(size), "strides": (1, 1), "dilations": (1, 1), "pads": (0, 0, 0, 0)}
