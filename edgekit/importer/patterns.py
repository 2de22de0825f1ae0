# SPDX-License-Identifier: Apache-2.0
"""Layer normalization spelled out in nodes, as exporters did before opset 17 had an operator for it.

    d = x - ReduceMean(x);  d / Sqrt(ReduceMean(d * d) + epsilon) [* gamma [+ beta]]

Some of these nodes exist in no other place of a quantized model (a division by a computed tensor, variances
whose range spans decades), so they are found before any of them is looked at by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from edgekit.importer.context import Context, OnnxNode, Shape
from edgekit.importer.handlers.reduce import reduced_axes
from edgekit.importer.registry import Unsupported


@dataclass(frozen=True)
class LayerNormPattern:
    """Nodes that compute one layer normalization.

    Attributes:
        x: the ONNX tensor that is normalized.
        normalized: its last dimensions, over which that happens.
        gamma, beta: broadcast to `normalized`.
        nodes: indexes of all nodes that it replaces; the last one's output is the result.
    """

    x: str
    normalized: Shape
    gamma: np.ndarray
    beta: np.ndarray
    epsilon: float
    nodes: frozenset[int]


def layer_norms(
    graph: onnx.GraphProto, ctx: Context, shapes: Mapping[str, Shape]
) -> dict[int, LayerNormPattern]:
    """Every layer normalization in `graph`, by the index of the node that computes its result.

    Nodes whose results are needed elsewhere are no part of a pattern.
    """
    finder = _Finder(graph, ctx, shapes)
    found = (finder.match(i) for i in range(len(finder.nodes)))
    return {max(p.nodes): p for p in found if p is not None}


class _Finder:
    def __init__(self, graph: onnx.GraphProto, ctx: Context, shapes: Mapping[str, Shape]) -> None:
        self.ctx, self.shapes = ctx, shapes
        self.nodes = [OnnxNode.of(proto, ctx.opset) for proto in graph.node]
        self.standard = [not proto.domain for proto in graph.node]
        self.writer = {name: i for i, node in enumerate(self.nodes) for name in node.outputs if name}
        self.readers: dict[str, set[int]] = {}
        for i, node in enumerate(self.nodes):
            for name in node.inputs:
                self.readers.setdefault(name, set()).add(i)
        self.outputs = {port.name for port in graph.output}

    def match(self, index: int) -> LayerNormPattern | None:
        """The pattern whose division is node `index`."""
        parts = self._quotient(index)
        if parts is None:
            return None
        centered, variance, used = parts
        sub, mean = self._step(centered, "Sub"), self._reduced_mean(variance.tensor)
        if sub is None or mean is None:
            return None
        square, axes = mean
        own = self._reduced_mean(self.nodes[sub].inputs[1])
        x = self.nodes[sub].inputs[0]
        if own is None or own != (x, axes) or not self._is_square(square, centered):
            return None
        used |= {sub, *(self.writer[name] for name in (variance.tensor, square, self.nodes[sub].inputs[1]))}
        normalized = self.shapes[x][axes:]
        nodes, gamma, beta = self._affine(index, normalized)
        used |= nodes
        if not self._only_used_inside(used):
            return None
        return LayerNormPattern(x, normalized, gamma, beta, variance.epsilon, frozenset(used))

    # The parts, each as what it was made from.

    def _quotient(self, index: int) -> tuple[str, _Variance, set[int]] | None:
        """Centered tensor, variance and nodes of `centered / sqrt(variance + epsilon)`, however it is written."""
        node = self.nodes[index]
        if node.op == "Div" and self.standard[index]:
            root = self._step(node.inputs[1], "Sqrt")
            return self._finish(node.inputs[0], root, {index})
        if node.op != "Mul" or not self.standard[index]:
            return None
        for centered, factor in (node.inputs, node.inputs[::-1]):
            inverse = self._step(factor, "Reciprocal")
            root = self._step(self.nodes[inverse].inputs[0], "Sqrt") if inverse is not None else None
            if inverse is not None and root is not None:
                return self._finish(centered, root, {index, inverse})
            power = self._step(factor, "Pow")
            if power is not None and self._number(self.nodes[power].inputs[1]) == -0.5:
                return self._finish(centered, power, {index})
        return None

    def _finish(self, centered: str, root: int | None, used: set[int]) -> tuple[str, _Variance, set[int]] | None:
        """`root` takes a root of `variance + epsilon`."""
        add = self._step(self.nodes[root].inputs[0], "Add") if root is not None else None
        if root is None or add is None:
            return None
        for tensor, other in (self.nodes[add].inputs, self.nodes[add].inputs[::-1]):
            epsilon = self._number(other)
            if epsilon is not None:
                return centered, _Variance(tensor, epsilon), used | {root, add}
        return None

    def _reduced_mean(self, tensor: str) -> tuple[str, int] | None:
        """(x, first reduced axis) where `tensor` is the mean over all dimensions of x from an axis on, kept as 1."""
        index = self._step(tensor, "ReduceMean")
        if index is None:
            return None
        node = self.nodes[index]
        rank = len(self.shapes.get(node.inputs[0], ()))
        try:
            axes = reduced_axes(self.ctx, node, rank, 18)
        except Unsupported:
            return None
        trailing = bool(axes) and axes == list(range(rank - len(axes), rank))
        return (node.inputs[0], axes[0]) if trailing and node.attrs.get("keepdims", 1) else None

    def _is_square(self, tensor: str, centered: str) -> bool:
        index = self.writer.get(tensor)
        if index is None or not self.standard[index]:
            return False
        node = self.nodes[index]
        if node.op == "Mul":
            return node.inputs == [centered, centered]
        return node.op == "Pow" and node.inputs[0] == centered and self._number(node.inputs[1]) == 2.0

    def _affine(self, index: int, normalized: Shape) -> tuple[set[int], np.ndarray, np.ndarray]:
        """The Mul and Add with constants behind node `index`, as far as they are there."""
        nodes: set[int] = set()
        factors = {"Mul": np.ones(1, np.float32), "Add": np.zeros(1, np.float32)}
        for op in factors:
            readers = self.readers.get(self.nodes[index].output, set())
            following = next(iter(readers)) if len(readers) == 1 and self.nodes[index].output not in self.outputs else None
            if following is None or self.nodes[following].op != op or not self.standard[following]:
                continue
            data = self._operand(self.nodes[following], self.nodes[index].output, normalized)
            if data is not None:
                factors[op], index = data, following
                nodes.add(following)
        return nodes, factors["Mul"], factors["Add"]

    def _operand(self, node: OnnxNode, tensor: str, normalized: Shape) -> np.ndarray | None:
        """The constant that `node` combines `tensor` with, if it varies over normalized dimensions only."""
        others = [name for name in node.inputs if name != tensor]
        data = self.ctx.constant(others[0]) if len(others) == 1 else None
        if data is None or self.shapes.get(node.output) != self.shapes.get(tensor):
            return None
        lead = data.ndim - len(normalized)
        if lead > 0:
            data = data.reshape(data.shape[lead:]) if set(data.shape[:lead]) == {1} else None
        return data

    # Questions.

    def _step(self, tensor: str, op: str) -> int | None:
        """The index of the node that computes `tensor`, if it is an `op`."""
        index = self.writer.get(tensor)
        return index if index is not None and self.nodes[index].op == op and self.standard[index] else None

    def _number(self, tensor: str) -> float | None:
        data = self.ctx.constant(tensor)
        return float(data.reshape(())) if data is not None and data.size == 1 and data.dtype.kind in "fiu" else None

    def _only_used_inside(self, nodes: set[int]) -> bool:
        """Whether nothing outside reads what the nodes in front of the last one compute."""
        inner = [name for i in nodes - {max(nodes)} for name in self.nodes[i].outputs]
        return all(name not in self.outputs and self.readers.get(name, set()) <= nodes for name in inner)


@dataclass(frozen=True)
class _Variance:
    tensor: str
    epsilon: float
