# SPDX-License-Identifier: Apache-2.0
"""Add, Sub, Mul and PRelu.

A scalar constant makes them functions of one variable, hence tables. A constant per channel of an
image makes them a 1x1 depthwise convolution, whose scales are per channel too.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgekit.graph import Node
from edgekit.program import Add, Mul, PRelu
from edgekit.quantize import scales
from edgekit.quantize.lowering import Lowering, lowers
from edgekit.quantize.lowerings.accumulate import affine
from edgekit.quantize.lowerings.tables import emit_table


@lowers("Add", "Sub")
def add(low: Lowering, node: Node) -> None:
    """a + b or a - b"""
    sign = -1.0 if node.op == "Sub" else 1.0
    if _by_table(low, node, lambda a, b: a + sign * b):
        return
    image, offset = _per_channel(low, node)
    if image is not None:
        affine(low, image, np.ones_like(offset), sign * offset)
        return
    a, b = (low.operand_quant(i) for i in node.inputs)
    y = low.quant(node.outputs[0])
    for name, quant in zip(node.inputs, (a, b), strict=True):
        _check_term(low, node, name, quant, y)
    inputs = [low.operand(i) for i in node.inputs]
    low.emit(Add(node.name, inputs, [low.result(node)], *low.clamp(node, y), subtract=node.op == "Sub"))


@lowers("Mul")
def mul(low: Lowering, node: Node) -> None:
    """a * b"""
    if _by_table(low, node, lambda a, b: a * b):
        return
    image, factor = _per_channel(low, node)
    if image is not None:
        affine(low, image, factor, np.zeros_like(factor))
        return
    a, b = (low.operand_quant(i) for i in node.inputs)
    y = low.quant(node.outputs[0])
    multiplier = np.float32(a.scale * b.scale) / y.scale
    low.check_multipliers(node, multiplier, scales.distance(a) * scales.distance(b))
    inputs = [low.operand(i) for i in node.inputs]
    low.emit(Mul(node.name, inputs, [low.result(node)], *low.clamp(node, y)))


@lowers("PRelu")
def prelu(low: Lowering, node: Node) -> None:
    """slope[C]"""
    x, y = low.quant(node.inputs[0]), low.quant(node.outputs[0])
    slope = low.graph.constant(node.inputs[1])
    assert slope is not None, f"{node.name}: slopes must be constant"
    channels = low.graph.values[node.inputs[0]].shape[-1]
    slope = np.broadcast_to(np.asarray(slope, np.float32).reshape(-1), (channels,)).copy()
    # A negative multiplier of zero is allowed, so only the positive one bounds from below.
    low.check_multipliers(node, x.scale / y.scale, scales.distance(x) * max(1.0, float(np.abs(slope).max())))
    low.emit(PRelu(node.name, [low.operand(node.inputs[0])], [low.result(node)], slope, *low.clamp(node, y)))


def _check_term(low: Lowering, node: Node, name: str, quant: scales.Quant, y: scales.Quant) -> None:
    """Each term has a multiplier of its own, and raising its scale must not touch the other term."""
    low.check_multipliers(replace(node, inputs=[name]), quant.scale / y.scale, scales.distance(quant))


def _by_table(low: Lowering, node: Node, function: object) -> bool:
    """Lowers a node that has only one variable, which must have the output's shape."""
    a, b = node.inputs
    constants = [low.graph.constant(i) for i in node.inputs]
    variable = a if constants[0] is None else b
    if low.graph.values[variable].shape != low.graph.values[node.outputs[0]].shape:
        return False
    x = scales.domain(low.quant(variable)) if low.graph.constant(variable) is None else None
    if x is None:
        return False
    if a == b:
        arguments = [x, x]
    elif any(c is not None and c.size == 1 for c in constants):
        arguments = [x if c is None else np.float64(c.reshape(())) for c in constants]
    else:
        return False
    emit_table(low, node, variable, function(*arguments))  # type: ignore[operator]
    return True


def _per_channel(low: Lowering, node: Node) -> tuple[Node | None, np.ndarray]:
    """Where the node combines an image with a constant that varies by channel only: the node with
    the image as its one input, and the constant, float64[C]."""
    x, constant = node.inputs[0], low.graph.constant(node.inputs[1])
    if constant is None and node.op != "Sub":
        x, constant = node.inputs[1], low.graph.constant(node.inputs[0])
    values = low.graph.values
    shape = values[x].shape
    if (
        constant is None
        or values[x].data is not None
        or len(shape) != 4
        or values[node.outputs[0]].shape != shape
        or constant.size != shape[-1]
        or constant.shape[-1:] != shape[-1:]
    ):
        return None, np.zeros(0)
    return replace(node, inputs=[x]), np.asarray(constant, np.float64).reshape(-1)
