# SPDX-License-Identifier: Apache-2.0
"""Operators that move values and keep their scale."""

from __future__ import annotations

import numpy as np

from edgekit.graph import Node
from edgekit.program import Concat, Lut, Pad, Reshape, ResizeNearest, Slice, Transpose
from edgekit.quantize import scales
from edgekit.quantize.lowering import Lowering, lowers
from edgekit.quantize.lowerings.tables import requantize_table


@lowers("Reshape")
def reshape(low: Lowering, node: Node) -> None:
    """Another shape for the same bytes."""
    low.emit(Reshape(node.name, [low.operand(node.inputs[0])], [low.result(node)]))


@lowers("Transpose")
def transpose(low: Lowering, node: Node) -> None:
    """Dimensions reordered."""
    perm = tuple(int(p) for p in node.attrs["perm"])
    low.emit(Transpose(node.name, [low.operand(node.inputs[0])], [low.result(node)], perm))


@lowers("Slice")
def slice_(low: Lowering, node: Node) -> None:
    """Every step-th element from start."""
    starts = tuple(int(s) for s in node.attrs["starts"])
    steps = tuple(int(s) for s in node.attrs["steps"])
    low.emit(Slice(node.name, [low.operand(node.inputs[0])], [low.result(node)], starts, steps))


@lowers("Pad")
def pad(low: Lowering, node: Node) -> None:
    """Padding with a constant, which the group's range holds."""
    before = tuple(int(b) for b in node.attrs["before"])
    value = int(scales.quantize(np.array(node.attrs["value"]), low.quant(node.outputs[0])))
    low.emit(Pad(node.name, [low.operand(node.inputs[0])], [low.result(node)], before, value))


@lowers("Concat")
def concat(low: Lowering, node: Node) -> None:
    """Inputs of another scale go through a table first."""
    y = low.quant(node.outputs[0])
    inputs = [_in_scale(low, node, name, y) for name in node.inputs]
    low.emit(Concat(node.name, inputs, [low.result(node)], int(node.attrs["axis"])))


@lowers("ResizeNearest")
def resize_nearest(low: Lowering, node: Node) -> None:
    """Rows and columns repeated or skipped."""
    rows = np.asarray(node.attrs["rows"], np.uint16)
    cols = np.asarray(node.attrs["cols"], np.uint16)
    low.emit(ResizeNearest(node.name, [low.operand(node.inputs[0])], [low.result(node)], rows, cols))


def _in_scale(low: Lowering, node: Node, value: str, y: scales.Quant) -> str:
    """The tensor that holds `value` in the quantization `y`."""
    data = low.graph.constant(value)
    if data is not None:
        return low.constant(value, scales.quantize(data, y), y)
    x = low.quant(value)
    if x == y:
        return low.operand(value)
    output = low.temporary(f"{value}_rescaled", low.graph.values[value].shape, y)
    low.emit(Lut(node.name, [low.operand(value)], [output], requantize_table(x, y)))
    return output
