# SPDX-License-Identifier: Apache-2.0
"""Functions of one variable as 256-entry tables, and softmax."""

from __future__ import annotations

import numpy as np

from edgekit.graph import Node
from edgekit.passes import unary as functions
from edgekit.program import Lut, Quant, Softmax
from edgekit.quantize import scales
from edgekit.quantize.lowering import Lowering, lowers

_SOFTMAX_ONE = 2**23
"""Largest table entry, exp(0): exact in binary32, and the output has 8 bits."""


@lowers("Unary")
def unary(low: Lowering, node: Node) -> None:
    """Evaluated in float64 at all 256 inputs, rounded once."""
    x = scales.domain(low.quant(node.inputs[0]))
    emit_table(low, node, node.inputs[0], functions.apply(node, x))


@lowers("Softmax")
def softmax(low: Lowering, node: Node) -> None:
    """table[d] = round(S * exp(-sx * d)), S so that a whole row sums below 2^31."""
    x = low.quant(node.inputs[0])
    length = low.graph.values[node.inputs[0]].shape[-1]
    one = min((2**31 - 1) // max(length, 1), _SOFTMAX_ONE)
    step = float(x.scale) * float(node.attrs.get("scale", 1.0))
    table = np.rint(one * np.exp(-step * np.arange(256))).astype(np.uint32)
    lo, hi = low.clamp(node, low.quant(node.outputs[0]))
    low.emit(Softmax(node.name, [low.operand(node.inputs[0])], [low.result(node)], table, lo, hi))


def emit_table(low: Lowering, node: Node, variable: str, function_values: np.ndarray) -> None:
    """A node as a table over `variable`.

    Args:
        function_values: float64[256] at -128...127, before the node's fused activation.
    """
    clip = node.attrs.get("clip")
    if clip is not None:
        function_values = np.clip(function_values, *clip)
    table = scales.table(function_values, low.quant(node.outputs[0]))
    low.emit(Lut(node.name, [low.operand(variable)], [low.result(node)], table))


def requantize_table(x: Quant, y: Quant, clip: tuple[float, float] = (-np.inf, np.inf)) -> np.ndarray:
    """int8[256] that brings values from one scale to another."""
    return scales.table(np.clip(scales.domain(x), *clip), y)
