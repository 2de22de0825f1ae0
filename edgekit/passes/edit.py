# SPDX-License-Identifier: Apache-2.0
"""What passes edit a graph with: who writes and reads each value, kept right across edits.

A rewrite that fuses a node into its producer lets the *later* value survive: the producer gets
its name. What is known of a value by name (its ONNX tensor, its batch norm statistics, the
model outputs) then stays true without further bookkeeping.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgekit.graph import Graph, Node, Value

Shape = tuple[int, ...]
Perm = tuple[int, ...]


class Editor:
    """A graph under rewriting."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._writer: dict[str, Node] = {}
        self._readers: dict[str, list[Node]] = {}
        for node in graph.nodes:
            self._link(node)

    # Reading.

    def value(self, name: str) -> Value:
        return self.graph.values[name]

    def shape(self, name: str) -> Shape:
        return self.graph.values[name].shape

    def constant(self, name: str) -> np.ndarray | None:
        """The data of a constant; None for an activation."""
        return self.graph.values[name].data

    def weights(self, layer: Node) -> tuple[np.ndarray, np.ndarray]:
        """Weight and bias of a Conv, DepthwiseConv or Dense, as float64."""
        w, b = (self.graph.values[name].data for name in layer.inputs[1:])
        assert w is not None and b is not None, layer.name
        return w.astype(np.float64), b.astype(np.float64)

    def producer(self, name: str, *ops: str) -> Node | None:
        """The node that writes `name`, if it is one of `ops` (any where none are given)."""
        node = self._writer.get(name)
        return node if node is not None and (not ops or node.op in ops) else None

    def readers(self, name: str) -> list[Node]:
        """The nodes that read `name`, once each."""
        return list(self._readers.get(name, ()))

    def only_reader(self, name: str) -> Node | None:
        """The node that alone needs `name`; None where another node or a model output does too."""
        readers = self._readers.get(name, ())
        return readers[0] if len(readers) == 1 and not self.graph.is_output(name) else None

    def is_input(self, name: str) -> bool:
        return any(p.value == name for p in self.graph.inputs)

    # Editing.

    def sweep(self, rule: Callable[[Editor, Node], bool]) -> bool:
        """Offers every node to `rule` once; returns whether it changed anything."""
        changed = False
        for node in list(self.graph.nodes):
            if self._writer.get(node.outputs[0]) is node:
                changed |= rule(self, node)
        return changed

    def add_constant(self, stem: str, data: np.ndarray) -> str:
        name = self.graph.fresh(stem)
        data = np.ascontiguousarray(data, dtype=np.float32)
        self.graph.values[name] = Value(name, data.shape, data=data)
        return name

    def add_value(self, stem: str, shape: Sequence[int], source: str | None = None, perm: Perm | None = None) -> str:
        name = self.graph.fresh(stem)
        self.graph.values[name] = Value(name, tuple(shape), source=source, source_perm=perm)
        return name

    def insert(self, anchor: Node, op: str, inputs: Sequence[str], output: str, **attrs: Any) -> None:
        """Adds a node in front of `anchor`, whose name it takes."""
        self._insert(self._position(anchor), Node(op, anchor.name, list(inputs), [output], attrs))

    def insert_behind(self, anchor: Node, op: str, inputs: Sequence[str], output: str, **attrs: Any) -> None:
        """Adds a node behind `anchor`, whose name it takes."""
        self._insert(self._position(anchor) + 1, Node(op, anchor.name, list(inputs), [output], attrs))

    def remove(self, node: Node) -> None:
        del self.graph.nodes[self._position(node)]
        self._unlink(node)

    def set_inputs(self, node: Node, inputs: Sequence[str]) -> None:
        self._unlink(node)
        node.inputs = list(inputs)
        self._link(node)

    def set_output(self, node: Node, output: str) -> None:
        self._unlink(node)
        node.outputs = [output]
        self._link(node)

    def rewrite(self, node: Node, op: str, inputs: Sequence[str], **attrs: Any) -> None:
        """Makes `node` another operator with the same output."""
        node.op, node.attrs = op, attrs
        self.set_inputs(node, inputs)

    def take_over(self, producer: Node, node: Node) -> None:
        """`producer` now computes what `node` did: it gets the output, `node` goes."""
        output = node.outputs[0]
        self.remove(node)
        self.set_output(producer, output)

    def bypass(self, node: Node, name: str) -> bool:
        """Readers of `node`'s output read `name`, which holds the same array, instead.

        Nothing happens where a model output would then be a model input or a constant.
        """
        old, new = self.value(node.outputs[0]), self.value(name)
        if self.graph.is_output(old.name) and (self.is_input(name) or new.data is not None):
            return False
        self.remove(node)
        for reader in self.readers(old.name):
            self.set_inputs(reader, [name if i == old.name else i for i in reader.inputs])
        for port in self.graph.outputs:
            port.value = name if port.value == old.name else port.value
        self._inherit(old, new)
        return True

    def _inherit(self, old: Value, new: Value) -> None:
        if new.source is None and new.data is None:
            new.source, new.source_perm = transposed_source(old, tuple(range(len(old.shape))))
            if new.source is None:
                new.source, new.source_perm = old.source, old.source_perm
        self.move_stats(old.name, new.name)

    def move_stats(self, old: str, new: str) -> None:
        """The batch norm statistics of `old`, which disappears, describe `new`; those that it has stay."""
        stats = self.graph.batch_norm_stats.pop(old, None)
        if stats is not None:
            self.graph.batch_norm_stats.setdefault(new, stats)

    def _insert(self, position: int, node: Node) -> None:
        self.graph.nodes.insert(position, node)
        self._link(node)

    def _position(self, node: Node) -> int:
        return next(i for i, n in enumerate(self.graph.nodes) if n is node)

    def _link(self, node: Node) -> None:
        for name in node.outputs:
            self._writer[name] = node
        for name in dict.fromkeys(node.inputs):
            self._readers.setdefault(name, []).append(node)

    def _unlink(self, node: Node) -> None:
        for name in node.outputs:
            if self._writer.get(name) is node:
                del self._writer[name]
        for name in dict.fromkeys(node.inputs):
            self._readers[name] = [n for n in self._readers[name] if n is not node]


def inverse(perm: Sequence[int]) -> Perm:
    """The permutation that undoes `perm`."""
    return tuple(int(i) for i in np.argsort(perm))


def moves_only_units(shape: Sequence[int], perm: Sequence[int]) -> bool:
    """Whether `perm` keeps the order of all dimensions of `shape` but those of size 1."""
    moved = [p for p in perm if shape[p] != 1]
    return moved == sorted(moved)


def transposed_source(value: Value, perm: Sequence[int]) -> tuple[str | None, Perm | None]:
    """`source` and `source_perm` of `value.transpose(perm)`.

    (None, None) where `value` is a reshaped ONNX tensor: a transposition behind a reshape cannot be
    recorded. Known not to be reshaped are a value named as its tensor, and one whose `source_perm`
    has as many entries as it has dimensions.
    """
    if value.source is None:
        return None, None
    if value.source_perm is None and value.name == value.source:
        return value.source, tuple(perm)
    if value.source_perm is not None and len(value.source_perm) == len(value.shape):
        return value.source, tuple(value.source_perm[p] for p in perm)
    return None, None


def reshaped_source(value: Value, shape: Shape) -> tuple[str | None, Perm | None]:
    """`source` and `source_perm` of `value.reshape(shape)`, another shape than its own.

    (None, None) where `transposed_source` would take the result for one that is not reshaped.
    """
    if value.source_perm is not None and len(value.source_perm) == len(shape):
        return None, None
    return value.source, value.source_perm
