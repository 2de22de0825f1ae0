# SPDX-License-Identifier: Apache-2.0
"""How large the weights of a model are, seen behind the batch norms that scale them."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from edgekit.prune.channels import attributes


def effective_weights(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Weight of every Conv, Gemm and MatMul with constant weights, times what follows it per output channel.

    A layer in front of an unfolded batch norm, or of the Mul and Add that some exporters make of it,
    has weights whose size says nothing without it. float64, in the shape of the constant.
    """
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    result = {}
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in constants:
            w = constants[node.input[1]].astype(np.float64)
            axis = output_axis(node, w.ndim)
            factor = _factor_behind(node.output[0], w.shape[axis], readers, constants)
            result[node.input[1]] = w * factor.reshape([-1 if a == axis else 1 for a in range(w.ndim)])
    return result


def output_axis(node: onnx.NodeProto, rank: int) -> int:
    """The dimension of a layer's weight that runs over its outputs."""
    if node.op_type == "Conv" or (node.op_type == "Gemm" and attributes(node).get("transB", 0)):
        return 0
    return rank - 1


def _factor_behind(
    name: str, channels: int, readers: dict[str, list[onnx.NodeProto]], constants: dict[str, np.ndarray]
) -> np.ndarray:
    factor = np.ones(channels)
    while len(readers.get(name, [])) == 1:
        node = readers[name][0]
        data = [constants[n].astype(np.float64) for n in node.input if n in constants]
        if node.op_type == "BatchNormalization" and len(data) == 4:
            epsilon = attributes(node).get("epsilon", 1e-5)
            factor = factor * np.abs(data[0]) / np.sqrt(data[3] + epsilon)
        elif node.op_type == "Mul" and len(data) == 1 and data[0].size in (1, channels):
            factor = factor * np.abs(data[0]).reshape(-1)
        elif node.op_type != "Add" or len(data) != 1 or data[0].size not in (1, channels):
            break
        name = node.output[0]
    return factor
