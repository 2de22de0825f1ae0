# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime as the importer uses it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

M = TypeVar("M", onnx.ModelProto, onnx.GraphProto)

RUNTIME_IR_VERSION = 10
"""What any ONNX Runtime of the last years reads; newer ones add nothing that a float32 graph needs."""


_LENT_ELEMENTS = 1024
"""Constants with more elements are lent to ONNX Runtime, not copied."""


class Session(onnxruntime.InferenceSession):
    """A session on the processor that reads the large weights of `model` where they are.

    Serialized with the model they would be held three times until the session is ready.
    """

    def __init__(self, model: onnx.ModelProto, options: onnxruntime.SessionOptions) -> None:
        large = [t for t in model.graph.initializer if _is_lent(t)]
        # ONNX Runtime does not own what it is lent: the session keeps it.
        self._weights = [onnxruntime.OrtValue.ortvalue_from_numpy(numpy_helper.to_array(t)) for t in large]
        if large:
            options.add_external_initializers([t.name for t in large], self._weights)
            model = _with_external(model)
        super().__init__(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def create_session(model: onnx.ModelProto) -> Session:
    """A quiet single-threaded session that runs once: nothing is prepared to make it faster."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.disable_prepacking", "1")
    return Session(model, options)


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
