# SPDX-License-Identifier: Apache-2.0
"""Constant folding, shape inference and dead code removal, from ONNX to ONNX.

Folding is done here, node by node, with the size of every result known before it is computed: a
few bytes of ConstantOfShape can ask for terabytes. onnxslim then removes what is dead, doubled or
does nothing. Its fusions are left out: they would hide BatchNormalization statistics and tensor
names that ranges are reported under, and `edgekit.passes` does the same on the graph.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxslim

from edgekit.errors import ModelError
from edgekit.importer.check import MAX_TENSOR_ELEMENTS, MAX_TOTAL_ELEMENTS, element_count, opset_of
from edgekit.importer.session import create_session
from edgekit.importer.windows import WINDOWED, explicit_window

logger = logging.getLogger(__name__)

SLIM_SKIPS = ["constant_folding", "graph_fusion", "weight_tying"]
RANDOM_OPS = frozenset(
    ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial")
)
MAX_FOLDED_ELEMENTS = MAX_TENSOR_ELEMENTS


def simplify(path: Path, model: onnx.ModelProto, blocked: bool) -> onnx.ModelProto:
    """Simplifies a checked model whose inputs have static shapes.

    Args:
        blocked: the model has operators that must not be executed or are unknown; only shapes are
            inferred, for a complete list of what is unsupported.

    Raises:
        ModelError: shapes contradict each other or exceed the limits.
    """
    if blocked:
        return _infer(path, model, strict=True)
    model = _infer(path, _fold(path, model), strict=True)
    return _slim(path, model)


def tensor_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """The static shapes that inference found; tensors without one are left out."""
    graph = model.graph
    shapes = {}
    for info in (*graph.input, *graph.value_info, *graph.output):
        shape = _static_shape(info)
        if shape is not None:
            shapes[info.name] = shape
    return shapes


def _static_shape(info: onnx.ValueInfoProto) -> tuple[int, ...] | None:
    tensor = info.type.tensor_type
    if not tensor.HasField("shape") or not all(d.HasField("dim_value") for d in tensor.shape.dim):
        return None
    return tuple(d.dim_value for d in tensor.shape.dim)


def _infer(path: Path, model: onnx.ModelProto, strict: bool) -> onnx.ModelProto:
    try:
        model = onnx.shape_inference.infer_shapes(
            model, check_type=strict, strict_mode=strict, data_prop=True
        )
    except Exception as error:
        raise ModelError(
            f"{path}: shapes do not fit together: {_one_line(error)}; export the model again"
        ) from None
    _check_sizes(path, tensor_shapes(model))
    return model


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _check_sizes(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    total = 0
    for name, shape in shapes.items():
        count = element_count(shape)
        total += count
        if count > MAX_TENSOR_ELEMENTS or total > MAX_TOTAL_ELEMENTS:
            raise ModelError(
                f"{path}: tensor '{name}' of shape {list(shape)} exceeds the limit of {MAX_TENSOR_ELEMENTS} elements "
                f"per tensor and {MAX_TOTAL_ELEMENTS} in all; use a smaller input shape"
            )


class _Folder:
    """Evaluates what depends on constants and static shapes only, in topological order."""

    def __init__(self, path: Path, model: onnx.ModelProto) -> None:
        self.path = path
        self.model = model
        self.opset = opset_of(model)
        self.constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
        self.types = {i.name: i.type for i in model.graph.input}
        self.folded: dict[str, np.ndarray] = {}

    def run(self) -> list[onnx.NodeProto]:
        """The nodes that stay."""
        remaining = []
        for node in self.model.graph.node:
            for explicit in self._explicit(node):
                outputs = self._evaluate(explicit)
                if outputs is None:
                    remaining.append(explicit)
                    continue
                self.constants.update(outputs)
                self.folded.update(outputs)
        return remaining

    def _explicit(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Convolutions and pools with explicit pads, where the size of their input is known."""
        if node.op_type not in WINDOWED or not all(
            t in self.types or t in self.constants for t in node.input[:1]
        ):
            return [node]
        inputs = _static_shape(onnx.ValueInfoProto(type=self._type_of(node.input[0])))
        kernel = next((list(a.ints) for a in node.attribute if a.name == "kernel_shape"), None)
        if kernel is None and len(node.input) > 1 and node.input[1] in self.constants:
            kernel = list(self.constants[node.input[1]].shape[2:])
        if inputs is None or not kernel:
            return [node]
        nodes, constants = explicit_window(node, inputs[2:], kernel, self.opset)
        added = {name: np.array(values, dtype=np.int64) for name, values in constants.items()}
        self.constants.update(added)
        self.folded.update(added)
        return nodes

    def _evaluate(self, node: onnx.NodeProto) -> dict[str, np.ndarray] | None:
        inferred = self._infer_outputs(node)
        self.types.update(inferred)
        if node.op_type in ("Shape", "Size"):
            return self._evaluate_shape(node)
        if node.op_type in RANDOM_OPS or any(t and t not in self.constants for t in node.input):
            return None
        outputs = [o for o in node.output if o]
        shapes = [
            _static_shape(onnx.ValueInfoProto(type=inferred[o])) if o in inferred else None for o in outputs
        ]
        # Only what the operator's own data bounds may be evaluated without a known size.
        if any(s is None for s in shapes) and node.op_type != "NonZero":
            return None
        count = sum(element_count(s) for s in shapes if s is not None)
        if count > MAX_FOLDED_ELEMENTS:
            raise ModelError(
                f"{self.path}: {node.op_type} node '{node.name}' makes a constant of {count} elements, more than "
                f"the limit of {MAX_FOLDED_ELEMENTS}; export the model again"
            )
        return self._execute(node, outputs)

    def _infer_outputs(self, node: onnx.NodeProto) -> dict[str, onnx.TypeProto]:
        schema = onnx.defs.get_schema(node.op_type, self.opset, "")
        types = {t: self._type_of(t) for t in node.input if t and (t in self.constants or t in self.types)}
        small = {
            t: onnx.numpy_helper.from_array(self.constants[t], t)
            for t in node.input
            if t in self.constants and self.constants[t].size <= 1024 and self.constants[t].dtype != object
        }
        try:
            return onnx.shape_inference.infer_node_outputs(
                schema,
                node,
                types,
                small,
                opset_imports=list(self.model.opset_import),
                ir_version=self.model.ir_version,
            )
        except Exception as error:
            raise ModelError(
                f"{self.path}: {node.op_type} node '{node.name}' is malformed: {_one_line(error)}; export the model again"
            ) from None

    def _type_of(self, tensor: str) -> onnx.TypeProto:
        data = self.constants.get(tensor)
        if data is None:
            return self.types[tensor]
        return onnx.helper.make_tensor_type_proto(
            onnx.helper.np_dtype_to_tensor_dtype(data.dtype), data.shape
        )

    def _evaluate_shape(self, node: onnx.NodeProto) -> dict[str, np.ndarray] | None:
        tensor = node.input[0]
        known = tensor in self.constants or tensor in self.types
        shape = _static_shape(onnx.ValueInfoProto(type=self._type_of(tensor))) if known else None
        if shape is None:
            return None
        attributes = {a.name: a.i for a in node.attribute}
        dims = shape[attributes.get("start", 0) : attributes.get("end", len(shape))]
        data = np.array(element_count(shape) if node.op_type == "Size" else dims, dtype=np.int64)
        return {node.output[0]: data}

    def _execute(self, node: onnx.NodeProto, outputs: list[str]) -> dict[str, np.ndarray] | None:
        tensors = [onnx.numpy_helper.from_array(self.constants[t], t) for t in dict.fromkeys(node.input) if t]
        empty = [onnx.helper.make_empty_tensor_value_info(o) for o in outputs]
        graph = onnx.helper.make_graph([node], "constant", [], empty, tensors)
        single = onnx.helper.make_model(graph, opset_imports=list(self.model.opset_import))
        single.ir_version = self.model.ir_version
        try:
            results = create_session(single).run(None, {})
        except Exception as error:
            logger.debug("cannot fold %s: %s", node.name, error)
            return None
        return dict(zip(outputs, (np.asarray(r) for r in results), strict=True))


def _fold(path: Path, model: onnx.ModelProto) -> onnx.ModelProto:
    """Replaces nodes of constants by initializers; a model output stays written by its node."""
    folder = _Folder(path, model)
    remaining = folder.run()
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    del graph.node[:]
    graph.node.extend(remaining)
    for output in graph.output:
        if output.name in folder.constants:
            raise ModelError(
                f"{path}: output '{output.name}' does not depend on an input; remove it from the model"
            )
    read = {t for node in remaining for t in node.input}
    kept = [t for t in graph.initializer if t.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    graph.initializer.extend(
        onnx.numpy_helper.from_array(data, name) for name, data in folder.folded.items() if name in read
    )
    return result


def _slim(path: Path, model: onnx.ModelProto) -> onnx.ModelProto:
    """onnxslim's clean-up, or the model as it is where that fails or changes what the model computes."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    try:
        slimmed = onnxslim.slim(copy, skip_optimizations=SLIM_SKIPS)
        slimmed = _infer(path, _without_inferred_shapes(slimmed), strict=True)
    except Exception as error:
        logger.debug("onnxslim failed on %s: %s", path, error)
        return model
    if not _same_ports(model, slimmed) or not _same_results(model, slimmed):
        logger.debug("onnxslim changed what %s computes; its result is not used", path)
        return model
    return slimmed


def _without_inferred_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    del model.graph.value_info[:]
    return model


def _same_ports(a: onnx.ModelProto, b: onnx.ModelProto) -> bool:
    def ports(model: onnx.ModelProto) -> list[tuple[str, int, tuple[int, ...] | None]]:
        both = (*model.graph.input, *model.graph.output)
        return [(p.name, p.type.tensor_type.elem_type, _static_shape(p)) for p in both]

    return ports(a) == ports(b)


def _same_results(a: onnx.ModelProto, b: onnx.ModelProto) -> bool:
    """Whether both compute the same from one random input, up to the order of float operations."""
    feeds = _random_feeds(a)
    try:
        expected = create_session(a).run(None, feeds)
    except Exception as error:
        # `check_executes` reports it, once it is known that no node is at fault.
        logger.debug("ONNX Runtime cannot execute the model: %s", error)
        return True
    got = create_session(b).run(None, feeds)
    return all(_close(x, y) for x, y in zip(expected, got, strict=True))


def _random_feeds(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        p.name: rng.standard_normal(_static_shape(p), dtype=np.float32).reshape(_static_shape(p) or ())
        for p in model.graph.input
    }


def check_executes(path: Path, model: onnx.ModelProto) -> None:
    """Runs the model once with every tensor shown: ONNX Runtime takes it and agrees on all shapes.

    Raises:
        ModelError: it does not, so that neither calibration nor a comparison would be possible.
    """
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    shown = {o.name for o in model.graph.output}
    names = [o for n in model.graph.node for o in n.output if o and o not in shown]
    tapped.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names)
    try:
        session = create_session(tapped)
        results = session.run(None, _random_feeds(model))
    except Exception as error:
        raise ModelError(f"{path}: ONNX Runtime cannot execute the model: {_one_line(error)}") from None
    shapes = tensor_shapes(model)
    for output, result in zip(session.get_outputs(), results, strict=True):
        if result.shape != shapes[output.name]:
            raise ModelError(
                f"{path}: tensor '{output.name}' has shape {list(result.shape)} in ONNX Runtime and "
                f"{list(shapes[output.name])} by ONNX's rules; export the model with a newer opset"
            )


def _close(x: np.ndarray, y: np.ndarray) -> bool:
    if x.dtype != np.float32:
        return bool(np.array_equal(x, y))
    largest = float(np.abs(x[np.isfinite(x)]).max(initial=1.0))
    return x.shape == y.shape and bool(np.allclose(x, y, rtol=1e-4, atol=1e-5 * largest, equal_nan=True))
