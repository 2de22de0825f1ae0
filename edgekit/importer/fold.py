# SPDX-License-Identifier: Apache-2.0
"""Infers shapes and evaluates what depends on constants and shapes only, node by node.

One node at a time, because the file is hostile: the size of every result is known before anything
is computed (a few bytes of ConstantOfShape can ask for terabytes), and every inferred shape is
checked before the next node sees it (onnx's C++ aborts the process on negative dimensions).
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TypeProto, helper, numpy_helper

from edgekit.errors import ModelError
from edgekit.importer.check import MAX_TENSOR_ELEMENTS, MAX_TOTAL_ELEMENTS, element_count, opset_of
from edgekit.importer.session import create_session
from edgekit.importer.windows import WINDOWED, explicit_window

logger = logging.getLogger(__name__)

RANDOM_OPS = frozenset(
    ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial")
)
BOUNDED_OPS = frozenset(("NonZero", "Unique", "Compress"))
"""Their results have no static shape, but no more elements than their inputs times the rank."""
SHAPE_DATA_ELEMENTS = 1024
"""Constants up to this size are shown to shape inference; shapes and axes are far smaller."""


def one_line(error: Exception) -> str:
    """The message of a library's exception, fit for the end of one of ours."""
    return " ".join(str(error).split())[:300]


def static_shape(tensor_type: TypeProto) -> tuple[int, ...] | None:
    """The shape of a tensor type; None where a dimension is open."""
    tensor = tensor_type.tensor_type
    if not tensor.HasField("shape") or not all(d.HasField("dim_value") for d in tensor.shape.dim):
        return None
    return tuple(d.dim_value for d in tensor.shape.dim)


def fold(path: Path, model: onnx.ModelProto, blocked: Collection[int]) -> onnx.ModelProto:
    """Replaces nodes of constants by initializers and records the type of every tensor, in place.

    Args:
        blocked: indexes of nodes that are neither inferred nor executed; what is behind them stays
            without a type.

    Raises:
        ModelError: a node contradicts its inputs, a tensor is too large, or an output is constant.
    """
    folder = _Folder(path, model)
    for index, node in enumerate(model.graph.node):
        folder.visit(node, index in blocked)
    for output in model.graph.output:
        if folder.is_constant(output.name):
            raise ModelError(
                f"{path}: output '{output.name}' does not depend on an input; remove it from the model"
            )
    return folder.result()


class _Folder:
    def __init__(self, path: Path, model: onnx.ModelProto) -> None:
        self.path = path
        self.model = model
        self.opset = opset_of(model)
        self.stored = {t.name: t for t in model.graph.initializer}
        self.types = {i.name: i.type for i in model.graph.input}
        self.remaining: list[onnx.NodeProto] = []
        self.folded: dict[str, np.ndarray] = {}
        self.elements = 0

    def visit(self, node: onnx.NodeProto, blocked: bool) -> None:
        """Takes the next node of the topological order."""
        if blocked or not all(self._known(t) for t in node.input if t):
            self.remaining.append(node)
            return
        for explicit in self._explicit(node):
            inferred = self._infer(explicit)
            outputs = self._evaluate(explicit, inferred)
            if outputs is None:
                self.types.update(inferred)
                self.remaining.append(explicit)
            else:
                self.folded.update(outputs)

    def result(self) -> onnx.ModelProto:
        """The model with what is left, and shapes throughout."""
        graph = self.model.graph
        read = {t for node in self.remaining for t in node.input}
        del graph.node[:], graph.value_info[:]
        graph.node.extend(self.remaining)
        for index in reversed(range(len(graph.initializer))):
            if graph.initializer[index].name not in read:
                del graph.initializer[index]
        graph.initializer.extend(
            numpy_helper.from_array(data, name) for name, data in self.folded.items() if name in read
        )
        ports = {p.name for p in (*graph.input, *graph.output)}
        for port in graph.output:
            if port.name in self.types:
                port.type.CopyFrom(self.types[port.name])
        written = (o for node in self.remaining for o in node.output)
        graph.value_info.extend(
            helper.make_value_info(o, self.types[o]) for o in written if o in self.types and o not in ports
        )
        return self.model

    def is_constant(self, tensor: str) -> bool:
        """Whether its elements are known."""
        return tensor in self.folded or tensor in self.stored

    def _known(self, tensor: str) -> bool:
        return self.is_constant(tensor) or tensor in self.types

    def _constant(self, tensor: str) -> np.ndarray:
        """A copy, of a stored one: most are large, and nobody asks for them."""
        return self.folded[tensor] if tensor in self.folded else numpy_helper.to_array(self.stored[tensor])

    def _type_of(self, tensor: str) -> TypeProto:
        if tensor in self.folded:
            data = self.folded[tensor]
            return helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(data.dtype), data.shape)
        if tensor in self.stored:
            stored = self.stored[tensor]
            return helper.make_tensor_type_proto(stored.data_type, stored.dims)
        return self.types[tensor]

    def _explicit(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Convolutions and pools with explicit pads, where the sizes are known."""
        if node.op_type not in WINDOWED:
            return [node]
        inputs = static_shape(self._type_of(node.input[0]))
        kernel = next((list(a.ints) for a in node.attribute if a.name == "kernel_shape"), None)
        if kernel is None and len(node.input) > 1:
            kernel = list((static_shape(self._type_of(node.input[1])) or ())[2:])
        if inputs is None or not kernel:
            return [node]
        nodes, constants = explicit_window(node, inputs[2:], kernel, self.opset)
        self.folded.update({name: np.array(values, dtype=np.int64) for name, values in constants.items()})
        return nodes

    def _infer(self, node: onnx.NodeProto) -> dict[str, TypeProto]:
        """The types of the outputs, each with a shape within the limits."""
        shape_data = {t: data for t in node.input if (data := self._shape_data(t)) is not None}
        try:
            inferred = onnx.shape_inference.infer_node_outputs(
                onnx.defs.get_schema(node.op_type, self.opset, ""),
                node,
                {t: self._type_of(t) for t in node.input if t},
                shape_data,
                opset_imports=list(self.model.opset_import),
                ir_version=self.model.ir_version,
            )
        except Exception as error:
            raise self._fault(node, f"is malformed: {one_line(error)}; export the model again") from None
        for tensor_type in inferred.values():
            self._check_size(node, static_shape(tensor_type))
        return inferred

    def _shape_data(self, tensor: str) -> onnx.TensorProto | None:
        """A constant that can say something of a shape."""
        if not self.is_constant(tensor) or element_count(static_shape(self._type_of(tensor)) or ()) > SHAPE_DATA_ELEMENTS:
            return None
        data = self._constant(tensor)
        return None if data.dtype == object else numpy_helper.from_array(data, tensor)

    def _check_size(self, node: onnx.NodeProto, shape: Sequence[int] | None) -> None:
        if shape is None:
            return
        if any(n < 0 for n in shape):
            raise self._fault(node, f"makes a tensor of shape {list(shape)}; export the model again")
        count = element_count(shape)
        self.elements += count
        if count > MAX_TENSOR_ELEMENTS or self.elements > MAX_TOTAL_ELEMENTS:
            raise self._fault(
                node,
                f"makes a tensor of shape {list(shape)}, which exceeds the limit of {MAX_TENSOR_ELEMENTS} "
                f"elements per tensor and {MAX_TOTAL_ELEMENTS} in all; use a smaller input shape",
            )

    def _fault(self, node: onnx.NodeProto, text: str) -> ModelError:
        return ModelError(f"{self.path}: {node.op_type} node '{node.name}' {text}")

    def _evaluate(self, node: onnx.NodeProto, inferred: dict[str, TypeProto]) -> dict[str, np.ndarray] | None:
        """The outputs of a node that is constant; None for any other."""
        if node.op_type in ("Shape", "Size"):
            return self._evaluate_shape(node)
        if node.op_type in RANDOM_OPS or any(t and not self.is_constant(t) for t in node.input):
            return None
        outputs = [o for o in node.output if o]
        sized = all(o in inferred and static_shape(inferred[o]) is not None for o in outputs)
        return self._execute(node, outputs) if sized or node.op_type in BOUNDED_OPS else None

    def _evaluate_shape(self, node: onnx.NodeProto) -> dict[str, np.ndarray] | None:
        shape = static_shape(self._type_of(node.input[0]))
        if shape is None:
            return None
        attributes = {a.name: a.i for a in node.attribute}
        dims = shape[attributes.get("start", 0) : attributes.get("end", len(shape))]
        data = np.array(element_count(shape) if node.op_type == "Size" else dims, dtype=np.int64)
        return {node.output[0]: data}

    def _execute(self, node: onnx.NodeProto, outputs: list[str]) -> dict[str, np.ndarray] | None:
        tensors = [numpy_helper.from_array(self._constant(t), t) for t in dict.fromkeys(node.input) if t]
        ports = [helper.make_empty_tensor_value_info(o) for o in outputs]
        graph = helper.make_graph([node], "constant", [], ports, tensors)
        single = helper.make_model(graph, opset_imports=list(self.model.opset_import))
        single.ir_version = self.model.ir_version
        try:
            results = create_session(single).run(None, {})
        except Exception as error:
            logger.debug("cannot fold %s: %s", node.name, error)
            return None
        return dict(zip(outputs, (np.asarray(r) for r in results), strict=True))
