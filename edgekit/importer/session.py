# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime as the importer uses it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache

import onnx
import onnxruntime
from onnx import TensorProto, helper

RUNTIME_IR_VERSION = 10
"""What any ONNX Runtime of the last years reads; newer ones add nothing that a float32 graph needs."""


def create_session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """A quiet single-threaded session on the processor."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.disable_prepacking", "1")  # a second copy of weights that run once
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


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
