# SPDX-License-Identifier: Apache-2.0
"""What a handler works with: the ONNX node in front of it and the graph under construction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from edgekit.format.schema import MAX_RANK
from edgekit.graph import Graph, Node, Value
from edgekit.importer.registry import Unsupported

Shape = tuple[int, ...]
Perm = tuple[int, ...]
Attrs = dict[str, Any]


@dataclass(frozen=True)
class OnnxNode:
    """A node as handlers see it: attributes decoded, trailing empty inputs dropped."""

    op: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attrs: dict[str, Any]
    opset: int

    @classmethod
    def of(cls, proto: onnx.NodeProto, opset: int) -> OnnxNode:
        inputs = list(proto.input)
        while inputs and not inputs[-1]:
            inputs.pop()
        attrs = {a.name: _decode(onnx.helper.get_attribute_value(a)) for a in proto.attribute}
        return cls(proto.op_type, proto.name, inputs, list(proto.output), attrs, opset)

    def input(self, index: int) -> str | None:
        """The name of an optional input; None where it is left out."""
        return (self.inputs[index] or None) if index < len(self.inputs) else None

    @property
    def output(self) -> str:
        """The only output that is asked for."""
        return self.outputs[0]


def _decode(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    return value


def inverse(perm: Sequence[int]) -> Perm:
    """The permutation that undoes `perm`."""
    return tuple(int(i) for i in np.argsort(perm))


def permuted(shape: Sequence[int], perm: Perm | None) -> Shape:
    """`shape` as `transpose(perm)` leaves it."""
    return tuple(shape) if perm is None else tuple(shape[p] for p in perm)


class Context:
    """Builds a `Graph` node by node.

    Handlers move between ONNX's layout and the canonical one by `take` and `give`: a *view* of
    an ONNX tensor is its array under `.transpose(perm).reshape(shape)`, which is exactly what
    `Value.source` and `Value.source_perm` record.
    """

    def __init__(
        self, name: str, opset: int, shapes: Mapping[str, Shape], constants: Mapping[str, np.ndarray]
    ) -> None:
        self.graph = Graph(name)
        self.opset = opset
        self._shapes = shapes
        self._constants = constants
        self._views: dict[tuple[str, Perm | None, Shape], str] = {}
        self._node = ""

    # What is known of an ONNX tensor.

    def shape(self, tensor: str) -> Shape:
        """The static shape of an ONNX tensor."""
        if tensor in self._constants:
            return self._constants[tensor].shape
        return self._shapes[tensor]

    def rank(self, tensor: str) -> int:
        return len(self.shape(tensor))

    def constant(self, tensor: str | None) -> np.ndarray | None:
        """The data of a constant ONNX tensor; None for an activation or a left-out input."""
        return None if tensor is None else self._constants.get(tensor)

    def require_constant(self, tensor: str, role: str) -> np.ndarray:
        """The data of an input that decides shapes or parameters.

        Raises:
            Unsupported: it is computed from the model's inputs.
        """
        data = self.constant(tensor)
        if data is None:
            raise Unsupported(
                f"its {role} is computed at run time", f"make the {role} a constant of the model"
            )
        return data

    # Nodes and values.

    def begin(self, node: OnnxNode) -> None:
        """Nodes emitted from here on carry the name of `node`."""
        self._node = node.name

    def add_input(self, tensor: str) -> None:
        """Registers the value of a model input."""
        self._register(tensor, None, self._new_value(tensor, self.shape(tensor), tensor, None))

    def add_constant(self, stem: str, data: np.ndarray) -> str:
        """A constant float32 value.

        Raises:
            Unsupported: NaN or infinity among the data.
        """
        with np.errstate(over="ignore"):
            data = np.ascontiguousarray(data, dtype=np.float32)
        if not np.isfinite(data).all():
            raise Unsupported("a constant holds NaN or infinity", "train or export the model again")
        name = self.graph.fresh(stem)
        self.graph.values[name] = Value(name, data.shape, data=data)
        return name

    def step(self, op: str, inputs: Sequence[str], shape: Sequence[int], attrs: Attrs | None = None) -> str:
        """Emits a node whose result no ONNX tensor holds; returns the name of its value."""
        value = self._new_value(f"{self._node}.{op.lower()}", tuple(shape), None, None)
        return self._emit(op, inputs, value, attrs)

    def take(self, tensor: str, perm: Sequence[int] | None = None, shape: Sequence[int] | None = None) -> str:
        """The value that holds `tensor.transpose(perm).reshape(shape)`, made once per view."""
        perm, shape = self._view(tensor, perm, shape)
        key = (tensor, perm, shape)
        if key not in self._views:
            self._views[key] = self._make_view(tensor, perm, shape)
        return self._views[key]

    def give(
        self,
        tensor: str,
        op: str,
        inputs: Sequence[str],
        attrs: Attrs | None = None,
        *,
        perm: Sequence[int] | None = None,
        shape: Sequence[int] | None = None,
    ) -> str:
        """Emits the node that computes ONNX tensor `tensor` and returns the name of its value.

        The node's result is the view `tensor.transpose(perm).reshape(shape)`; the nodes that bring
        it into ONNX's own layout follow it.
        """
        perm, shape = self._view(tensor, perm, shape)
        result = self._new_value(
            tensor if (perm, shape) == (None, self.shape(tensor)) else None, shape, tensor, perm
        )
        self._emit(op, inputs, result, attrs)
        self._register(tensor, perm, result)
        if (tensor, None, self.shape(tensor)) not in self._views:
            self._undo_view(tensor, perm, result)
        return result

    def alias(self, tensor: str, value: str) -> None:
        """Declares that the existing `value` holds ONNX tensor `tensor` in its own layout."""
        self._views[tensor, None, self.shape(tensor)] = value

    def placeholder(self, tensor: str) -> bool:
        """Registers a value for the output of an unsupported node, so that what follows is checked too.

        Returns:
            Whether a value of that shape can exist.
        """
        if len(self.shape(tensor)) > MAX_RANK:
            return False
        if (tensor, None, self.shape(tensor)) not in self._views:
            self._register(tensor, None, self._new_value(tensor, self.shape(tensor), tensor, None))
        return True

    # Inside.

    def _view(
        self, tensor: str, perm: Sequence[int] | None, shape: Sequence[int] | None
    ) -> tuple[Perm | None, Shape]:
        """The canonical spelling of a view: no permutation where it is the identity."""
        if perm is not None:
            perm = None if list(perm) == sorted(perm) else tuple(perm)
        return perm, permuted(self.shape(tensor), perm) if shape is None else tuple(shape)

    def _make_view(self, tensor: str, perm: Perm | None, shape: Shape) -> str:
        if perm is None and shape == self.shape(tensor):
            return self.add_constant(tensor, self._constants[tensor])
        if tensor in self._constants:
            data = self._constants[tensor]
            return self.add_constant(tensor, (data if perm is None else data.transpose(perm)).reshape(shape))
        if shape != permuted(self.shape(tensor), perm):
            return self._emit(
                "Reshape", [self.take(tensor, perm)], self._new_value(None, shape, tensor, perm)
            )
        assert perm is not None
        return self._emit(
            "Transpose", [self.take(tensor)], self._new_value(None, shape, tensor, perm), {"perm": perm}
        )

    def _undo_view(self, tensor: str, perm: Perm | None, value: str) -> None:
        there = permuted(self.shape(tensor), perm)
        if self.graph.values[value].shape != there:
            name = self._new_value(tensor if perm is None else None, there, tensor, perm)
            value = self._emit("Reshape", [value], name)
            self._register(tensor, perm, value)
        if perm is not None:
            name = self._new_value(tensor, self.shape(tensor), tensor, None)
            self._register(tensor, None, self._emit("Transpose", [value], name, {"perm": inverse(perm)}))

    def _register(self, tensor: str, perm: Perm | None, value: str) -> None:
        self._views[tensor, perm, self.graph.values[value].shape] = value

    def _new_value(self, name: str | None, shape: Shape, source: str | None, perm: Perm | None) -> str:
        if len(shape) > MAX_RANK:
            raise Unsupported(f"a tensor has {len(shape)} dimensions", f"use at most {MAX_RANK}")
        stem = name or f"{source}.{'x'.join(map(str, shape))}"
        name = self.graph.fresh(stem)
        self.graph.values[name] = Value(name, shape, source=source, source_perm=perm)
        return name

    def _emit(self, op: str, inputs: Sequence[str], output: str, attrs: Attrs | None = None) -> str:
        self.graph.nodes.append(Node(op, self._node, list(inputs), [output], attrs or {}))
        return output
