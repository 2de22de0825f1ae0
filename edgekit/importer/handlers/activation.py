# SPDX-License-Identifier: Apache-2.0
"""Functions of one variable."""

from __future__ import annotations

import math

import numpy as np

from edgekit.importer.context import Attrs, Context, OnnxNode
from edgekit.importer.handlers.window import NHWC, NLC
from edgekit.importer.registry import Unsupported, handler
from edgekit.passes.unary import FUNCTIONS

SINCE: dict[str, int] = {
    "Relu": 1,
    "Sigmoid": 1,
    "Tanh": 1,
    "Exp": 1,
    "Log": 1,
    "Sqrt": 1,
    "Abs": 1,
    "Atan": 7,
    "Neg": 1,
    "Reciprocal": 1,
    "Erf": 9,
    "Softplus": 1,
    "Softsign": 1,
    "HardSwish": 14,
    "Mish": 18,
    "Floor": 1,
    "Ceil": 1,
    "Round": 11,
    "Sign": 9,
    "Sin": 7,
    "Cos": 7,
    "LeakyRelu": 1,
    "HardSigmoid": 1,
    "Elu": 1,
    "Celu": 12,
    "Selu": 1,
    "ThresholdedRelu": 10,
    "Swish": 24,
}
"""ONNX operators that are the function of their name in `passes.unary`, whose parameters are their float
attributes; with the opset that brought them."""


def unary(fn: str, **params: float) -> Attrs:
    """The attributes of a Unary node."""
    return {"fn": fn, "params": params}


def affine(mul: float, add: float = 0.0) -> Attrs:
    """mul * x + add"""
    return unary("Affine", mul=mul, add=add)


def give_unary(ctx: Context, node: OnnxNode, fn: str, **params: float) -> None:
    """The whole node is `fn` of its first input."""
    ctx.give(node.output, "Unary", [ctx.take(node.inputs[0])], unary(fn, **params))


def _function(ctx: Context, node: OnnxNode) -> None:
    defaults = FUNCTIONS[node.op].defaults
    values = {**defaults, **node.attrs}
    give_unary(ctx, node, node.op, **{name: float(values[name]) for name in defaults})


for _op, _since in SINCE.items():
    handler(_op, _since, becomes="Unary")(_function)


@handler("Gelu", since=20, becomes="Unary")
def gelu(ctx: Context, node: OnnxNode) -> None:
    give_unary(ctx, node, "Gelu", approximate=float(node.attrs.get("approximate", "none") == "tanh"))


@handler("Clip", becomes="Unary", restrictions="bounds are constants")
def clip(ctx: Context, node: OnnxNode) -> None:
    """Bounds are attributes before opset 11, inputs since; infinities where one is left out."""
    if node.opset < 11:
        lo, hi = float(node.attrs.get("min", -math.inf)), float(node.attrs.get("max", math.inf))
    else:
        lo, hi = _bound(ctx, node, 1, "minimum", -math.inf), _bound(ctx, node, 2, "maximum", math.inf)
    give_clip(ctx, node, node.inputs[0], lo, hi)


def give_clip(ctx: Context, node: OnnxNode, x: str, lo: float, hi: float) -> None:
    """The node limits ONNX tensor `x` to [lo, hi]; the largest finite number counts as infinity."""
    largest = float(np.finfo(np.float32).max)
    lo, hi = (-math.inf if lo <= -largest else lo), (math.inf if hi >= largest else hi)
    if lo > hi:
        # ONNX: every element becomes the maximum.
        lo = hi
    if not (lo < math.inf and hi > -math.inf):
        raise Unsupported(f"its bounds [{lo}, {hi}] leave no number", "export the model again")
    ctx.give(node.output, "Unary", [ctx.take(x)], unary("Clip", lo=lo, hi=hi))


def _bound(ctx: Context, node: OnnxNode, index: int, role: str, default: float) -> float:
    if node.input(index) is None:
        return default
    return float(ctx.require_constant(node.inputs[index], role).reshape(-1)[0])


@handler("PRelu", becomes="PRelu, Unary", restrictions="one slope, or one per channel or per last dimension")
def prelu(ctx: Context, node: OnnxNode) -> None:
    x, y = node.inputs[0], node.output
    slope = ctx.require_constant(node.inputs[1], "slope")
    if slope.size == 1:
        give_unary(ctx, node, "LeakyRelu", alpha=float(slope.reshape(-1)[0]))
        return
    rank = ctx.rank(x)
    shape = (1,) * (rank - slope.ndim) + slope.shape
    axis = next(i for i, n in enumerate(shape) if n > 1)
    if slope.size != shape[axis] or axis not in (1, rank - 1):
        raise Unsupported(f"its slope has shape {list(slope.shape)}", "use one slope per channel")
    perm = tuple(range(rank)) if axis == rank - 1 else channels_last(rank)
    inputs = [ctx.take(x, perm), ctx.add_constant(node.inputs[1], slope.reshape(-1))]
    ctx.give(y, "PRelu", inputs, perm=perm)


def channels_last(rank: int) -> tuple[int, ...]:
    """The permutation that moves dimension 1 to the end."""
    return {3: NLC, 4: NHWC}.get(rank, (0, *range(2, rank), 1))
