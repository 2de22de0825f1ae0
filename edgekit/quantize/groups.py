# SPDX-License-Identifier: Apache-2.0
"""Values that share one scale because operators only move them."""

from __future__ import annotations

from collections.abc import Iterator

from edgekit.graph import Graph, Node
from edgekit.passes import unary
from edgekit.program import Quant
from edgekit.quantize.scales import PROBABILITY, SIGNED_UNIT

MOVES = frozenset({"MaxPool", "Reshape", "Transpose", "Slice", "Pad", "ResizeNearest"})
"""Operators whose output has their input's scale."""

_FIXED_FUNCTIONS = {
    "Sigmoid": PROBABILITY,
    "HardSigmoid": PROBABILITY,
    "Tanh": SIGNED_UNIT,
    "Erf": SIGNED_UNIT,
    "Softsign": SIGNED_UNIT,
}


def moves(node: Node) -> bool:
    """Whether `node` keeps the scale; a fused activation on a MaxPool is computed by a table."""
    return node.op in MOVES and "clip" not in node.attrs


def fixed_quant(node: Node) -> Quant | None:
    """The quantization of an output whose range is known beforehand."""
    if "clip" in node.attrs:
        return None
    if node.op == "Softmax":
        return PROBABILITY
    if node.op == "Unary":
        return _FIXED_FUNCTIONS.get(unary.chain(node)[-1][0])
    return None


class Groups:
    """A partition of the activations; the members of a group have one scale."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._members = {v.name: {v.name} for v in graph.activations()}
        self._consumers = _consumers(graph)
        self.fixed: dict[str, Quant] = {}
        for node in graph.nodes:
            quant = fixed_quant(node)
            if quant is not None:
                self.fixed[node.outputs[0]] = quant
        for node in graph.nodes:
            if moves(node) and graph.constant(node.inputs[0]) is None:
                self._join(node.inputs[0], node.outputs[0])
        for node in graph.nodes:
            if node.op == "Concat":
                self._join_concat(node)

    def members(self, value: str) -> set[str]:
        """The values that share `value`'s scale, itself included."""
        return self._members[value]

    def fixed_scale(self, value: str) -> Quant | None:
        """The known quantization of `value`'s group."""
        return next((self.fixed[m] for m in self._members[value] if m in self.fixed), None)

    def __iter__(self) -> Iterator[set[str]]:
        seen: set[int] = set()
        for members in self._members.values():
            if id(members) not in seen:
                seen.add(id(members))
                yield members

    def _join(self, a: str, b: str) -> None:
        if self._members[a] is self._members[b]:
            return
        union = self._members[a] | self._members[b]
        for member in union:
            self._members[member] = union

    def _join_concat(self, node: Node) -> None:
        """Inputs that nothing else reads take the output's scale; a table in front brings the others to it."""
        output = node.outputs[0]
        for name in node.inputs:
            if (
                self._graph.constant(name) is None
                and self._only_feeds(name, node)
                and not self.fixed_scale(name)
            ):
                self._join(name, output)

    def _only_feeds(self, value: str, concat: Node) -> bool:
        """Whether widening the scale of `value`'s group affects nothing but `concat`."""
        members = self._members[value]
        allowed = members | {concat.outputs[0]}
        return all(
            not self._graph.is_output(m)
            and all(
                (moves(n) or n.op == "Concat") and n.outputs[0] in allowed for n in self._consumers.get(m, ())
            )
            for m in members
        )


def _consumers(graph: Graph) -> dict[str, list[Node]]:
    consumers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for name in dict.fromkeys(node.inputs):
            consumers.setdefault(name, []).append(node)
    return consumers
