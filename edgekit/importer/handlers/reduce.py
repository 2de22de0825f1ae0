# SPDX-License-Identifier: Apache-2.0
"""Reductions over whole dimensions, as pools whose window is everything."""

from __future__ import annotations

import math

from edgekit.importer.context import Context, OnnxNode, permuted
from edgekit.importer.handlers.activation import affine
from edgekit.importer.handlers.pool import full_window
from edgekit.importer.handlers.window import NHWC
from edgekit.importer.registry import Unsupported, handler


@handler("ReduceMean", becomes="AveragePool over the full window", restrictions="axes are constant")
def reduce_mean(ctx: Context, node: OnnxNode) -> None:
    _reduce(ctx, node, "AveragePool", 18, count_include_pad=False)


@handler("ReduceMax", becomes="MaxPool over the full window", restrictions="axes are constant")
def reduce_max(ctx: Context, node: OnnxNode) -> None:
    _reduce(ctx, node, "MaxPool", 18)


@handler("ReduceSum", becomes="AveragePool over the full window, Unary", restrictions="axes are constant")
def reduce_sum(ctx: Context, node: OnnxNode) -> None:
    _reduce(ctx, node, "AveragePool", 13, count_include_pad=False)


def _reduce(ctx: Context, node: OnnxNode, op: str, axes_input_since: int, **more: bool) -> None:
    """[reduced..., kept...] -> a pool over [1, H, W, kept]; space of an NCHW image stays an image."""
    x, y = node.inputs[0], node.output
    shape = ctx.shape(x)
    axes = reduced_axes(ctx, node, len(shape), axes_input_since)
    if not axes:
        ctx.alias(y, ctx.take(x, shape=ctx.shape(y)))
        return
    kept = [i for i in range(len(shape)) if i not in axes]
    if len(shape) == 4 and axes == [2, 3]:
        perm, view = NHWC, permuted(shape, NHWC)
    else:
        perm = (*axes, *kept)
        view = (1, math.prod(shape[i] for i in axes), 1, math.prod(shape[i] for i in kept))
    result = (view[0], 1, 1, view[3])
    # The kept dimensions are in ONNX's order on both sides and the reduced ones are 1: a reshape brings
    # the result into any layout. Where an image stays one, the permutation says more.
    back = NHWC if perm == NHWC and ctx.rank(y) == 4 else None
    pooled = ctx.take(x, perm, view)
    attrs = full_window(view[1:3]) | more
    if node.op == "ReduceSum":
        pooled = ctx.step(op, [pooled], result, attrs)
        ctx.give(y, "Unary", [pooled], affine(float(view[1] * view[2])), perm=back, shape=result)
    else:
        ctx.give(y, op, [pooled], attrs, perm=back, shape=result)


def reduced_axes(ctx: Context, node: OnnxNode, rank: int, input_since: int) -> list[int]:
    """The axes of a reduction, sorted and not negative.

    Args:
        input_since: the opset since which they are an input, not an attribute.
    """
    if node.opset >= input_since:
        data = None if node.input(1) is None else ctx.require_constant(node.inputs[1], "axes")
        axes = [] if data is None else [int(a) for a in data.reshape(-1)]
    else:
        axes = list(node.attrs.get("axes", []))
    if not axes:
        return [] if node.attrs.get("noop_with_empty_axes", 0) else list(range(rank))
    if any(not -rank <= a < rank for a in axes):
        raise Unsupported(f"axes {axes} are outside its {rank} dimensions", "export the model again")
    return sorted({a % rank for a in axes})
