# SPDX-License-Identifier: Apache-2.0
"""What the operators alone say about the range of a value."""

from __future__ import annotations

import math

import numpy as np

from edgekit.graph import Graph, Node
from edgekit.passes import unary

Range = tuple[float, float]

_KEEP_RANGE = ("MaxPool", "AveragePool", "Reshape", "Transpose", "Slice", "Concat", "ResizeNearest")
_FOLLOWED = frozenset((*_KEEP_RANGE, "Pad", "Unary", "Softmax"))
"""Operators whose output's range follows from those of their inputs; a constant is looked at for them alone."""


def known_ranges(graph: Graph) -> dict[str, Range]:
    """Activation -> (lo, hi) that holds for every input; infinities where nothing is known."""
    ranges = {name: (-math.inf, math.inf) for name, v in graph.values.items() if v.data is None}

    def range_of(name: str) -> Range:
        return ranges[name] if name in ranges else _constant_range(graph.constant(name))

    for node in graph.nodes:
        inputs = [range_of(name) for name in node.inputs] if node.op in _FOLLOWED else []
        lo, hi = _node_range(node, inputs)
        low, high = node.attrs.get("clip", (-math.inf, math.inf))
        ranges[node.outputs[0]] = (min(max(lo, low), high), max(min(hi, high), low))
    return ranges


def _constant_range(data: np.ndarray | None) -> Range:
    if data is None or data.size == 0:
        return -math.inf, math.inf
    return float(data.min()), float(data.max())


def _node_range(node: Node, inputs: list[Range]) -> Range:
    if node.op == "Unary":
        return unary.output_range(unary.chain(node), *inputs[0])
    if node.op == "Softmax":
        return 0.0, 1.0
    if node.op == "Pad":
        inputs = [*inputs, (node.attrs["value"], node.attrs["value"])]
    elif node.op == "AveragePool" and node.attrs["count_include_pad"]:
        inputs = [*inputs, (0.0, 0.0)]
    elif node.op not in _FOLLOWED:
        return -math.inf, math.inf
    return min(lo for lo, _ in inputs), max(hi for _, hi in inputs)
