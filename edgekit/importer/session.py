# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime as the importer uses it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

M = TypeVar("M", onnx.ModelProto, onnx.GraphProto)

RUNTIME_IR_VERSION = 10
"""What any ONNX Runtime of the last years reads; newer ones add nothing that a float32 graph needs."""


_LENT_ELEMENTS = 1024
"""Constants with more elements are lent to ONNX Runtime, not copied."""


class Session(onnxruntime.InferenceSession):
    """A session on the processor that reads large weights where they are, and keeps them there.

    Serialized with the model they would be held three times until the session is ready.
    """

    def __init__(
        self, light: bytes, weights: Mapping[str, np.ndarray], options: onnxruntime.SessionOptions
    ) -> None:
        self._weights = [onnxruntime.OrtValue.ortvalue_from_numpy(data) for data in weights.values()]
        if weights:
            options.add_external_initializers(list(weights), self._weights)
        super().__init__(light, options, providers=["CPUExecutionProvider"])


class FloatModel:
    """An ONNX model with its large float32 weights beside it, as arrays that a graph and sessions can share.

    Attributes:
        light: the model, which only names those weights; as an initializer with external data.
        weights: name -> float32, not to be written to.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        large = [t for t in model.graph.initializer if _is_lent(t)]
        self.light = _with_external(model) if large else model
        self.weights = {t.name: numpy_helper.to_array(t) for t in large}

    @classmethod
    def of(cls, model: onnx.ModelProto | FloatModel) -> FloatModel:
        """`model` in this form."""
        return model if isinstance(model, FloatModel) else cls(model)

    def whole(self) -> onnx.ModelProto:
        """A copy with all weights inside."""
        model = copy_without(self.light, ("graph",))
        model.graph.MergeFrom(copy_without(self.light.graph, ("initializer",)))
        model.graph.initializer.extend(
            numpy_helper.from_array(self.weights[t.name], t.name) if t.name in self.weights else t
            for t in self.light.graph.initializer
        )
        return model

    def session(
        self, options: onnxruntime.SessionOptions, outputs: Iterable[str] | None = None
    ) -> Session:
        """A session that shows these tensors, or the model's own outputs."""
        if outputs is None:
            return Session(self.light.SerializeToString(), self.weights, options)
        with shown(self.light, outputs) as light:
            return Session(light.SerializeToString(), self.weights, options)


def create_session(model: onnx.ModelProto | FloatModel, outputs: Iterable[str] | None = None) -> Session:
    """A quiet single-threaded session that runs once: nothing is prepared to make it faster."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.disable_prepacking", "1")
    return FloatModel.of(model).session(options, outputs)


def copy_without(message: M, fields: Collection[str]) -> M:
    """A copy that lacks some fields. Deleted from a whole copy, they would still take their memory."""
    result = type(message)()
    for field, value in message.ListFields():
        if field.name in fields:
            continue
        if isinstance(value, (bool, int, float, str, bytes)):
            setattr(result, field.name, value)
        else:
            getattr(result, field.name).MergeFrom(value)
    return result


def _is_lent(tensor: TensorProto) -> bool:
    return tensor.data_type == TensorProto.FLOAT and math.prod(tensor.dims) > _LENT_ELEMENTS


def _with_external(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that only names the large weights."""
    light = copy_without(model, ("graph",))
    light.graph.MergeFrom(copy_without(model.graph, ("initializer",)))
    for tensor in model.graph.initializer:
        if not _is_lent(tensor):
            light.graph.initializer.append(tensor)
            continue
        named = light.graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        named.data_location = TensorProto.EXTERNAL
        named.external_data.add(key="location", value="memory")
    return light


@contextmanager
def shown(model: onnx.ModelProto, names: Iterable[str]) -> Iterator[onnx.ModelProto]:
    """`model` itself, whose outputs are these tensors for as long as the context lasts."""
    outputs = model.graph.output
    own = list(outputs)
    del outputs[:]
    outputs.extend(onnx.ValueInfoProto(name=name) for name in names)
    try:
        yield model
    finally:
        del outputs[:]
        outputs.extend(own)


@cache
def newest_opset(limit: int) -> int:
    """The newest opset up to `limit` that the installed ONNX Runtime executes."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "probe", ports[:1], ports[1:])
    for opset in range(limit, 0, -1):
        imports = [helper.make_opsetid("", opset)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=RUNTIME_IR_VERSION)
        try:
            create_session(model)
        except Exception:
            continue
        return opset
    raise RuntimeError("ONNX Runtime executes no model at all; install it again")
