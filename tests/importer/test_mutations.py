# SPDX-License-Identifier: Apache-2.0
"""Valid protobuf, odd contents: models with a few random edits either import right or are refused."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, numpy_helper

from edgekit.errors import ModelError
from tests.importer.tapped import compare, import_model, model, node

INTEGERS = [-1, 0, 1, 2, 3, 4, 7, -2, 100, 2**31, 2**40, 2**63 - 1, -(2**63), -5]
STRINGS = [b"", b"linear", b"constant", b"edge", b"CRD", b"SAME_UPPER", b"SAME_LOWER", b"VALID", b"\xff\xfe"]
OPERATORS = [
    "Add", "AveragePool", "ConstantOfShape", "Concat", "Conv", "Dropout", "Expand", "Flatten", "Gather", "Gemm",
    "GlobalMaxPool", "Identity", "If", "LSTM", "Loop", "MatMul", "MaxPool", "Mul", "NonZero", "PRelu", "Pad", "Range",
    "ReduceSum", "Reshape", "Resize", "Shape", "Size", "Slice", "Softmax", "SpaceToDepth", "Split", "Squeeze",
    "Tile", "TopK", "Transpose", "Unsqueeze", "Upsample", "Where",
]  # fmt: skip


def spatial_model() -> onnx.ModelProto:
    nodes = [
        node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["a", "q", "q", "q", "q"], ["b"]),
        node("MaxPool", ["b"], ["c"], kernel_shape=[2, 2], ceil_mode=1),
        node("Resize", ["c", "", "s"], ["r"], mode="nearest"),
        node("Pad", ["r", "p"], ["d"]),
        node("Slice", ["d", "start", "end"], ["e"]),
        node(
            "AveragePool", ["e"], ["f"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1
        ),
        node("Shape", ["f"], ["g"]),
        node("Gather", ["g", "zero"], ["h"]),
        node("Unsqueeze", ["h", "zero"], ["i"]),
        node("Concat", ["i", "minus"], ["j"], axis=0),
        node("Reshape", ["f", "j"], ["k"]),
        node("Gemm", ["k", "m"], ["l"], alpha=0.5),
        node("Softmax", ["l"]),
    ]
    rng = np.random.default_rng(0)
    constants = {
        "w": rng.standard_normal((2, 3, 3, 3)), "q": np.ones(2), "s": np.array([1, 1, 2, 2], np.float32),
        "p": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "start": np.array([0, 0, 1, 1]), "end": np.array([1, 2, 99, 99]),
        "zero": np.array(0), "minus": np.array([-1]), "m": rng.standard_normal((128, 2)),
    }  # fmt: skip
    return model(nodes, {"x": [1, 3, 8, 8]}, ["y"], constants, opset=13)


def flat_model() -> onnx.ModelProto:
    nodes = [
        node("ReduceMean", ["x"], ["a"], axes=[2, 3]),
        node("Transpose", ["a"], ["b"], perm=[0, 2, 3, 1]),
        node("Squeeze", ["b", "axes"], ["c"]),
        node("MatMul", ["c", "w"], ["d"]),
        node("Split", ["d", "sizes"], ["e", "f"], axis=1),
        node("Mul", ["e", "f"], ["g"]),
        node("Clip", ["g", "lo", "hi"], ["h"]),
        node("Gather", ["h", "index"], ["i"], axis=1),
        node("Concat", ["i", "e"], ["j"], axis=1),
        node("Expand", ["j", "target"], ["k"]),
        node("DepthToSpace", ["z"], ["l"], blocksize=2),
        node("GlobalAveragePool", ["l"], ["m"]),
        node("Flatten", ["m"], ["n"]),
        node("Add", ["k", "n"]),
    ]
    constants = {
        "axes": np.array([1, 2]), "w": np.random.default_rng(0).standard_normal((3, 6)), "sizes": np.array([3, 3]),
        "lo": np.float32(0), "hi": np.float32(6), "index": np.array([0, 2]), "target": np.array([2, 5]),
    }  # fmt: skip
    return model(nodes, {"x": [1, 3, 4, 4], "z": [1, 4, 4, 4]}, ["y"], constants, opset=13)


def mutate(proto: onnx.ModelProto, rng: np.random.Generator) -> None:
    """One random edit."""
    graph = proto.graph
    target = graph.node[rng.integers(len(graph.node))]
    tensors = [t for n in graph.node for t in (*n.input, *n.output)]
    kind = rng.integers(8)
    if kind == 0:
        target.op_type = str(rng.choice(OPERATORS))
    elif kind == 1 and target.input:
        target.input[rng.integers(len(target.input))] = str(rng.choice([*tensors, ""]))
    elif kind == 2 and target.input:
        target.input.pop()
    elif kind == 3:
        target.input.append(str(rng.choice(tensors)))
    elif kind == 4:
        dims = graph.input[rng.integers(len(graph.input))].type.tensor_type.shape.dim
        dims[rng.integers(len(dims))].dim_value = int(rng.choice([*range(1, 20), *INTEGERS]))
    elif kind == 5 and target.attribute:
        _mutate_attribute(target.attribute[rng.integers(len(target.attribute))], rng)
    else:
        _mutate_tensor(graph.initializer[rng.integers(len(graph.initializer))], rng)


def _mutate_attribute(attribute: AttributeProto, rng: np.random.Generator) -> None:
    value = INTEGERS[rng.integers(len(INTEGERS))]
    if attribute.type == AttributeProto.INT:
        attribute.i = value
    elif attribute.type == AttributeProto.FLOAT:
        attribute.f = float(rng.choice([0.0, -1.0, np.inf, np.nan]))
    elif attribute.type == AttributeProto.STRING:
        attribute.s = STRINGS[rng.integers(len(STRINGS))]
    elif attribute.ints and rng.random() < 0.7:
        attribute.ints[rng.integers(len(attribute.ints))] = value
    else:
        attribute.ints.append(value)


def _mutate_tensor(tensor: onnx.TensorProto, rng: np.random.Generator) -> None:
    data = numpy_helper.to_array(tensor).copy()
    values = INTEGERS if data.dtype == np.int64 else [0.0, -1.0, 3.0, 0.5]
    if data.size:
        data.reshape(-1)[rng.integers(data.size)] = values[rng.integers(len(values))]
    change = rng.integers(6)
    if change == 0:
        data = data[None]
    elif change == 1:
        data = data.reshape(-1)[:-1]
    elif change == 2 and data.dtype != np.int64:
        data = data.astype([np.int32, np.float64, np.int8, np.bool_][rng.integers(4)])
    tensor.CopyFrom(numpy_helper.from_array(data, tensor.name))


@pytest.mark.parametrize("make", [spatial_model, flat_model])
def test_mutated_models(tmp_path: Path, make, seed: int) -> None:
    rng = np.random.default_rng(seed)
    imported = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for _ in range(150):
            proto = make()
            for _ in range(rng.integers(1, 3)):
                mutate(proto, rng)
            try:
                result = import_model(tmp_path, proto)
            except ModelError as error:
                assert str(error).startswith(f"{tmp_path / 'model.onnx'}: ")
                continue
            compare(result, seed, tolerance=1e-4)
            imported += 1
    assert imported > 5
