# SPDX-License-Identifier: Apache-2.0
"""Arithmetic of two or more tensors, with broadcasting."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgekit.importer.context import Attrs, Context, OnnxNode
from edgekit.importer.handlers.activation import affine, give_clip, give_unary, unary
from edgekit.importer.registry import Unsupported, handler


def _scalar(ctx: Context, tensor: str) -> float | None:
    """The number of a constant with one element; None for all else."""
    data = ctx.constant(tensor)
    if data is None or data.size != 1:
        return None
    number = float(data.reshape(-1)[0])
    if not math.isfinite(number):
        raise Unsupported(f"its constant '{tensor}' is {number}", "train or export the model again")
    return number


def _chain(ctx: Context, node: OnnxNode, tensor: str, *functions: Attrs) -> None:
    """The node is a chain of functions of one tensor; a constant of higher rank adds dimensions."""
    shape = ctx.shape(node.output)
    value = ctx.take(tensor, shape=shape)
    for function in functions[:-1]:
        value = ctx.step("Unary", [value], shape, function)
    ctx.give(node.output, "Unary", [value], functions[-1])


@handler("Add", becomes="Add; Unary for a constant number")
def add(ctx: Context, node: OnnxNode) -> None:
    a, b = node.inputs
    for x, other in ((a, b), (b, a)):
        number = _scalar(ctx, other)
        if number is not None:
            _chain(ctx, node, x, affine(1.0, number))
            return
    ctx.give(node.output, "Add", [ctx.take(a), ctx.take(b)])


@handler("Sub", becomes="Sub; Unary for a constant number; Add for a constant right side")
def sub(ctx: Context, node: OnnxNode) -> None:
    a, b = node.inputs
    left, right = _scalar(ctx, a), _scalar(ctx, b)
    if right is not None:
        _chain(ctx, node, a, affine(1.0, -right))
    elif left is not None:
        _chain(ctx, node, b, affine(-1.0, left))
    elif (data := ctx.constant(b)) is not None:
        ctx.give(node.output, "Add", [ctx.take(a), ctx.add_constant(b, -data)])
    else:
        ctx.give(node.output, "Sub", [ctx.take(a), ctx.take(b)])


@handler("Mul", becomes="Mul; Unary for a constant number")
def mul(ctx: Context, node: OnnxNode) -> None:
    a, b = node.inputs
    for x, other in ((a, b), (b, a)):
        number = _scalar(ctx, other)
        if number is not None:
            _chain(ctx, node, x, affine(number))
            return
    ctx.give(node.output, "Mul", [ctx.take(a), ctx.take(b)])


@handler(
    "Div",
    becomes="Mul by the inverse of a constant; Unary for a constant number",
    restrictions="one side is a constant, and a divisor has no zero",
)
def div(ctx: Context, node: OnnxNode) -> None:
    a, b = node.inputs
    left, right = _scalar(ctx, a), _scalar(ctx, b)
    divisor, dividend = ctx.constant(b), ctx.constant(a)
    if divisor is not None and not divisor.all():
        raise Unsupported("its divisor holds zeros", "train or export the model again")
    if right is not None:
        _chain(ctx, node, a, affine(1.0 / right))
    elif left is not None:
        _chain(ctx, node, b, unary("Reciprocal"), affine(left))
    elif divisor is not None:
        inverse = (1.0 / divisor.astype(np.float64)).astype(np.float32)
        ctx.give(node.output, "Mul", [ctx.take(a), ctx.add_constant(b, inverse)])
    elif dividend is not None:
        inverted = ctx.step("Unary", [ctx.take(b)], ctx.shape(b), unary("Reciprocal"))
        ctx.give(node.output, "Mul", [ctx.take(a), inverted])
    else:
        raise Unsupported("it divides two computed tensors", "only constants can divide or be divided")


@handler("Pow", becomes="Unary", restrictions="base or exponent is a constant number")
def power(ctx: Context, node: OnnxNode) -> None:
    a, b = node.inputs
    base, exponent = _scalar(ctx, a), _scalar(ctx, b)
    if exponent is not None:
        _chain(ctx, node, a, unary("Pow", exponent=exponent))
    elif base is not None and base > 0:
        _chain(ctx, node, b, affine(math.log(base)), unary("Exp"))
    else:
        raise Unsupported(
            "neither base nor exponent is a positive constant number", "use a constant exponent"
        )


@handler("Sum", becomes="Add")
def sum_(ctx: Context, node: OnnxNode) -> None:
    _fold(ctx, node, "Add", node.inputs)


@handler("Mean", becomes="Add, Unary")
def mean(ctx: Context, node: OnnxNode) -> None:
    if len(node.inputs) == 1:
        give_unary(ctx, node, "Affine", mul=1.0, add=0.0)
        return
    shape = ctx.shape(node.output)
    total = _running(ctx, node.inputs, shape)
    ctx.give(node.output, "Unary", [total], affine(1.0 / len(node.inputs)))


def _fold(ctx: Context, node: OnnxNode, op: str, inputs: Sequence[str]) -> None:
    if len(inputs) == 1:
        ctx.alias(node.output, ctx.take(inputs[0]))
        return
    total = _running(ctx, inputs[:-1], None)
    ctx.give(node.output, op, [total, ctx.take(inputs[-1])])


def _running(ctx: Context, inputs: Sequence[str], shape: Sequence[int] | None) -> str:
    """The sum of several tensors; each intermediate has the shape that broadcasting gives."""
    total, so_far = ctx.take(inputs[0]), ctx.shape(inputs[0])
    for tensor in inputs[1:]:
        so_far = np.broadcast_shapes(so_far, ctx.shape(tensor))
        total = ctx.step("Add", [total, ctx.take(tensor)], so_far)
    assert shape is None or tuple(shape) == so_far
    return total


@handler("Max", becomes="Unary", restrictions="one tensor and constant numbers")
def maximum(ctx: Context, node: OnnxNode) -> None:
    x, numbers = _tensor_and_numbers(ctx, node)
    give_clip(ctx, node, x, max(numbers), math.inf)


@handler("Min", becomes="Unary", restrictions="one tensor and constant numbers")
def minimum(ctx: Context, node: OnnxNode) -> None:
    x, numbers = _tensor_and_numbers(ctx, node)
    give_clip(ctx, node, x, -math.inf, min(numbers))


def _tensor_and_numbers(ctx: Context, node: OnnxNode) -> tuple[str, list[float]]:
    tensors = [t for t in node.inputs if _scalar(ctx, t) is None]
    numbers = [n for t in node.inputs if (n := _scalar(ctx, t)) is not None]
    if len(tensors) != 1 or not numbers or ctx.shape(tensors[0]) != ctx.shape(node.output):
        raise Unsupported("it compares tensors", "only a limit by a constant number is supported")
    return tensors[0], numbers
