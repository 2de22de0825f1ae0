# SPDX-License-Identifier: Apache-2.0
"""Size and work of an ONNX model."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from edgekit.prune.channels import attributes, static_shapes

_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16)


@dataclass(frozen=True)
class Statistics:
    """What a model costs.

    Attributes:
        parameters: elements of all floating-point constants.
        nonzero_parameters: those that are not zero.
        macs: multiply-accumulates of convolutions and matrix products for one execution.
        bytes: size of the serialized model.
    """

    parameters: int
    nonzero_parameters: int
    macs: int
    bytes: int

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


def statistics(model: onnx.ModelProto) -> Statistics:
    """Counts parameters, work and bytes of a model with static shapes."""
    floats = [numpy_helper.to_array(t) for t in model.graph.initializer if t.data_type in _FLOATS]
    shapes = static_shapes(model)
    return Statistics(
        parameters=sum(a.size for a in floats),
        nonzero_parameters=sum(int(np.count_nonzero(a)) for a in floats),
        macs=sum(node_macs(node, shapes) for node in model.graph.node),
        bytes=model.ByteSize(),
    )


def node_macs(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    """Multiply-accumulates of one node; 0 for all but Conv, Gemm and MatMul."""
    if node.op_type == "Conv":
        return math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
    if node.op_type == "Gemm":
        depth = shapes[node.input[0]][0 if attributes(node).get("transA", 0) else 1]
        return math.prod(shapes[node.output[0]]) * depth
    if node.op_type == "MatMul":
        return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
    return 0
