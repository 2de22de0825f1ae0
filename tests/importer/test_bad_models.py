# SPDX-License-Identifier: Apache-2.0
"""Every kind of bad ONNX input ends in one clear line that says what to do."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.errors import ModelError
from edgekit.importer import load
from edgekit.importer.check import MAX_IR_VERSION, MAX_OPSET
from tests.importer.tapped import import_model, model, node

Proto = onnx.ModelProto
X = {"x": [1, 4]}
IMAGE = {"x": [1, 3, 8, 8]}


def relu(**more: Any) -> Proto:
    return model([node("Relu", ["x"])], X, **more)


def conv(weight: np.ndarray | None = None) -> Proto:
    weight = np.ones((2, 3, 3, 3), np.float32) if weight is None else weight
    return model([node("Conv", ["x", "w"])], IMAGE, ["y"], {"w": weight})


def edited(proto: Proto, edit: Callable[[Proto], Any]) -> Proto:
    edit(proto)
    return proto


def external(location: str, length: str | None = None, offset: str | None = None) -> Proto:
    def edit(proto: Proto) -> None:
        tensor = proto.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("length", length), ("offset", offset)):
            if value is not None:
                tensor.external_data.add(key=key, value=value)

    return edited(conv(), edit)


def bomb(levels: int) -> Proto:
    """Functions of which each calls the one before ten times."""
    functions = []
    for level in range(levels):
        called = ("Relu", "") if level == 0 else (f"f{level - 1}", "evil")
        names = ["x", *(f"t{i}" for i in range(9)), "y"]
        nodes = [
            helper.make_node(called[0], [a], [b], domain=called[1]) for a, b in itertools.pairwise(names)
        ]
        imports = [helper.make_opsetid("", 17), helper.make_opsetid("evil", 1)]
        functions.append(helper.make_function("evil", f"f{level}", ["x"], ["y"], nodes, imports))
    proto = model([helper.make_node(f"f{levels - 1}", ["x"], ["y"], domain="evil")], X, functions=functions)
    proto.opset_import.append(helper.make_opsetid("evil", 1))
    return proto


def recursive_function() -> Proto:
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("evil", 1)]
    call = helper.make_node("f", ["x"], ["y"], domain="evil")
    proto = model([call], X, functions=[helper.make_function("evil", "f", ["x"], ["y"], [call], imports)])
    proto.opset_import.append(helper.make_opsetid("evil", 1))
    return proto


def huge_constant() -> Proto:
    """A few bytes that ask for a tensor of 2^60 elements."""
    nodes = [
        node("ConstantOfShape", ["s"], ["c"]),
        node("ReduceSum", ["c"], ["r"], keepdims=0),
        node("Add", ["x", "r"]),
    ]
    return model(nodes, X, ["y"], {"s": np.array([2**30, 2**30], np.int64)})


def hidden_huge_constant() -> Proto:
    """The same with a size that only folding finds."""
    nodes = [
        node("Mul", ["s", "s"], ["q"]),
        node("Cast", ["q"], ["f"], to=TensorProto.FLOAT),
        node("Cast", ["f"], ["i"], to=TensorProto.INT64),
        node("ConstantOfShape", ["i"], ["c"]),
        node("ReduceSum", ["c"], ["r"], keepdims=0),
        node("Add", ["x", "r"]),
    ]
    return model(nodes, X, ["y"], {"s": np.array([2**20, 2**20], np.int64)})


def endless_loop() -> Proto:
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Identity", ["v"], ["w"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("d", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [1]),
        ],
    )
    constants = {"n": np.array(2**62, np.int64), "t": np.array(True), "v0": np.zeros(1, np.float32)}
    nodes = [node("Loop", ["n", "t", "v0"], ["l"], body=body), node("Add", ["x", "l"])]
    return model(nodes, X, ["y"], constants)


def sequence_input() -> Proto:
    proto = relu()
    proto.graph.input[0].type.Clear()
    proto.graph.input[0].type.sequence_type.elem_type.tensor_type.elem_type = TensorProto.FLOAT
    return proto


def sparse_weight() -> Proto:
    proto = conv()
    values = numpy_helper.from_array(np.ones(1, np.float32), "w")
    sparse = helper.make_sparse_tensor(
        values, numpy_helper.from_array(np.zeros(1, np.int64), "i"), [2, 3, 3, 3]
    )
    del proto.graph.initializer[:]
    proto.graph.sparse_initializer.append(sparse)
    return proto


def set_dims(*dims: int) -> Callable[[Proto], None]:
    def edit(proto: Proto) -> None:
        tensor = proto.graph.initializer[0]
        del tensor.dims[:]
        tensor.dims.extend(dims)

    return edit


EXPORT = "export the model again"
# name -> (model, message behind "PATH: "); "..." stands for what onnx or ONNX Runtime says.
BAD: dict[str, tuple[Callable[[], Proto | bytes], str]] = {
    "empty file": (lambda: b"", f"the file is empty; {EXPORT}"),
    "text": (lambda: b"#!/bin/sh\necho hello\n" * 9, f"damaged, or not an ONNX file; {EXPORT}"),
    "cut off": (lambda: conv().SerializeToString()[:-40], f"damaged, or not an ONNX file; {EXPORT}"),
    "no graph": (lambda: Proto(ir_version=8), f"holds no ONNX graph with nodes; {EXPORT}"),
    "no nodes": (lambda: model([], X, ["x"]), f"holds no ONNX graph with nodes; {EXPORT}"),
    "old IR version": (
        lambda: relu(ir_version=2),
        f"IR version 2 is outside 3 to {MAX_IR_VERSION}; export the model with another version of the exporter, or update the "
        "onnx package",
    ),
    "IR version of the future": (
        lambda: relu(ir_version=99),
        f"IR version 99 is outside 3 to {MAX_IR_VERSION}; export the model with another version of the exporter, or update the "
        "onnx package",
    ),
    "old opset": (
        lambda: relu(opset=8),
        f"opset 8 is outside 9 to {MAX_OPSET}; export the model with opset_version=17, or convert it with "
        "onnx.version_converter",
    ),
    "opset of the future": (
        lambda: relu(opset=99),
        f"opset 99 is outside 9 to {MAX_OPSET}; export the model with opset_version=17, or convert it with "
        "onnx.version_converter",
    ),
    "no opset": (
        lambda: edited(relu(), lambda p: p.ClearField("opset_import")),
        "declares 0 versions of the standard operators; export it again",
    ),
    "two opsets": (
        lambda: edited(relu(), lambda p: p.opset_import.append(helper.make_opsetid("ai.onnx", 15))),
        "declares 2 versions of the standard operators; export it again",
    ),
    "no inputs": (
        lambda: model([node("Relu", ["c"])], {}, ["y"], {"c": np.ones(3)}),
        "the model has no inputs; export it with its input as an argument",
    ),
    "no outputs": (
        lambda: edited(relu(), lambda p: p.graph.ClearField("output")),
        "the model has no outputs; export it again",
    ),
    "output listed twice": (
        lambda: model([node("Relu", ["x"])], X, ["y", "y"]),
        f"an output is listed twice in ['y', 'y']; {EXPORT}",
    ),
    "output that nothing writes": (
        lambda: model([node("Relu", ["x"])], X, ["y", "z"]),
        f"output 'z' is written by no node; {EXPORT}",
    ),
    "constant output": (
        lambda: model([node("Relu", ["x"]), node("Relu", ["c"], ["z"])], X, ["y", "z"], {"c": np.ones(3)}),
        "output 'z' does not depend on an input; remove it from the model",
    ),
    "tensor that nothing writes": (
        lambda: model([node("Add", ["x", "ghost"])], X),
        f"Add node 'the_add' reads tensor 'ghost', which nothing writes; {EXPORT}",
    ),
    "tensor written twice": (
        lambda: model([node("Relu", ["x"]), node("Neg", ["x"])], X),
        f"tensor 'y' is defined twice, by Relu node 'the_relu' and Neg node 'the_neg'; {EXPORT}",
    ),
    "initializer written by a node": (
        lambda: model([node("Relu", ["x"])], X, ["y"], {"y": np.ones(4)}),
        f"tensor 'y' is defined twice, by the initializers and Relu node 'the_relu'; {EXPORT}",
    ),
    "initializer stored twice": (
        lambda: edited(conv(), lambda p: p.graph.initializer.append(p.graph.initializer[0])),
        f"tensor 'w' is defined twice, by the initializers and the initializers; {EXPORT}",
    ),
    "cycle": (
        lambda: model([node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"]), node("Neg", ["b"])], X),
        "Add node 'the_add' is part of, or behind, a cycle; export it again",
    ),
    "functions that explode": (lambda: bomb(9), "1000000000 nodes are more than the limit of 10000; use a smaller model"),
    "function that calls itself": (recursive_function, f"function 'f' calls itself; {EXPORT}"),
    "too many nodes": (
        lambda: model(
            [helper.make_node("Relu", [f"t{i}"], [f"t{i + 1}"]) for i in range(10_001)], {"t0": [1]}, ["t10001"]
        ),
        "10001 nodes are more than the limit of 10000; use a smaller model",
    ),
    "NaN weight": (
        lambda: conv(np.full((2, 3, 3, 3), np.nan, np.float32)),
        "initializer 'w' holds NaN or infinity; train or export the model again",
    ),
    "infinite weight": (
        lambda: conv(np.full((2, 3, 3, 3), np.inf, np.float32)),
        "initializer 'w' holds NaN or infinity; train or export the model again",
    ),
    "weight shorter than its shape": (
        lambda: edited(conv(), set_dims(4, 3, 3, 3)),
        f"initializer 'w' is damaged (cannot reshape array of size 54 into shape (4,3,3,3)); {EXPORT}",
    ),
    "weight with a negative dimension": (
        lambda: edited(conv(), set_dims(-2, 3, 3, 3)),
        f"initializer 'w' has a negative dimension in [-2, 3, 3, 3]; {EXPORT}",
    ),
    "weight that claims to be huge": (
        lambda: edited(conv(), set_dims(2**40, 2**40)),
        "initializer 'w' of shape [1099511627776, 1099511627776] exceeds the limit of 134217728 elements per tensor "
        "and 268435456 in all",
    ),
    "weight of unknown type": (
        lambda: edited(conv(), lambda p: setattr(p.graph.initializer[0], "data_type", 77)),
        f"initializer 'w' is damaged (...); {EXPORT}",
    ),
    "sparse weight": (sparse_weight, "initializer 'w' is sparse; store it as a dense tensor"),
    "external data by absolute path": (
        lambda: external("/etc/passwd"),
        "initializer 'w' refers to external data outside the model's folder ('/etc/passwd'); save the model with its "
        "weights inside, or beside it",
    ),
    "external data above the folder": (
        lambda: external("a/../../w.bin"),
        "initializer 'w' refers to external data outside the model's folder ('a/../../w.bin'); save the model with "
        "its weights inside, or beside it",
    ),
    "external data by a Windows path": (
        lambda: external("C:\\w.bin"),
        "initializer 'w' refers to external data outside the model's folder ('C:\\\\w.bin'); save the model with its "
        "weights inside, or beside it",
    ),
    "external data without a location": (
        lambda: external(""),
        "initializer 'w' refers to external data outside the model's folder (''); save the model with its weights "
        "inside, or beside it",
    ),
    "external data missing": (
        lambda: external("w.bin"),
        "external data 'w.bin' of initializer 'w' is missing; put it beside the model",
    ),
    "external data by symbolic link": (
        lambda: external("link.bin"),
        "external data 'link.bin' of initializer 'w' is a symbolic link; copy the file itself",
    ),
    "external data too short": (
        lambda: external("short.bin", length="216"),
        "initializer 'w' needs 216 bytes, but bytes 0 to 216 are claimed of external file 'short.bin' with 10; "
        f"{EXPORT}",
    ),
    "external data at a negative offset": (
        lambda: external("short.bin", length="216", offset="-216"),
        "initializer 'w' needs 216 bytes, but bytes -216 to 0 are claimed of external file 'short.bin' with 10; "
        f"{EXPORT}",
    ),
    "external data with a damaged reference": (
        lambda: external("short.bin", length="many"),
        "initializer 'w' has a damaged reference to external data; export it again",
    ),
    "symbolic dimension": (
        lambda: model([node("Relu", ["x"])], {"x": ["batch", 3, "height", 32]}),
        "dimension 'height' of input 'x' is not a positive number; give the shape, as in --input-shape x=1,3,N,32 "
        "with numbers for N",
    ),
    "dimension without a name": (
        lambda: model([node("Relu", ["x"])], {"x": [1, None]}),
        "dimension '' of input 'x' is not a positive number; give the shape, as in --input-shape x=1,N with numbers "
        "for N",
    ),
    "dimension of zero": (
        lambda: model([node("Relu", ["x"])], {"x": [1, 0]}),
        "dimension 0 of input 'x' is not a positive number; give the shape, as in --input-shape x=1,N with numbers "
        "for N",
    ),
    "negative dimension": (
        lambda: model([node("Relu", ["x"])], {"x": [-1, 3]}),
        "dimension -1 of input 'x' is not a positive number; give the shape, as in --input-shape x=N,3 with numbers "
        "for N",
    ),
    "input without a shape": (
        lambda: model([node("Relu", ["x"])], {"x": None}),
        "input 'x' has no shape; give it, as in --input-shape x=1,3,224,224",
    ),
    "huge input": (
        lambda: model([node("Relu", ["x"])], {"x": [1, 2**40]}),
        "input 'x' of shape [1, 1099511627776] exceeds 134217728 elements",
    ),
    "sequence input": (sequence_input, "input 'x' is a sequence; only tensors are supported"),
    "string input": (
        lambda: model([node("Identity", ["x"])], X, elem_type=TensorProto.STRING),
        "input 'x' is string; export the model with a float32 input, raw integer data is handled by --input-mean and "
        "--input-std",
    ),
    "integer input": (
        lambda: model([node("Abs", ["x"])], X, elem_type=TensorProto.INT64),
        "input 'x' is int64; export the model with a float32 input, raw integer data is handled by --input-mean and "
        "--input-std",
    ),
    "input of unknown type": (
        lambda: relu(elem_type=99),
        "input 'x' has unknown element type 99; export it again",
    ),
    "input without a type": (lambda: relu(elem_type=0), f"input 'x' has no element type; {EXPORT}"),
    "shapes that do not fit": (
        lambda: model([node("MatMul", ["x", "w"])], X, ["y"], {"w": np.ones((5, 2))}),
        f"MatMul node 'the_matmul' is malformed: ...; {EXPORT}",
    ),
    "node with too few inputs": (
        lambda: model([node("Conv", ["x"])], IMAGE),
        "Conv node 'the_conv' is malformed (...); export it again",
    ),
    "a Split with more outputs than it says": (
        lambda: model([node("Split", ["x"], ["y", "z"], num_outputs=1)], X, opset=18),
        "Split node 'the_split' is malformed (num_outputs is 1, and it has 2); export it again",
    ),
    "huge folded constant": (
        huge_constant,
        "ConstantOfShape node 'the_constantofshape' makes a tensor of shape [1073741824, 1073741824], which exceeds the "
        "limit of 134217728 elements per tensor and 268435456 in all; use a smaller input shape",
    ),
    "hidden huge folded constant": (
        hidden_huge_constant,
        "ConstantOfShape node 'the_constantofshape' makes a tensor of shape [1099511627776, 1099511627776], which "
        "exceeds the limit of 134217728 elements per tensor and 268435456 in all; use a smaller input shape",
    ),
    "huge activation": (
        lambda: model(
            [node("Expand", ["x", "s"], ["e"]), node("Neg", ["e"])], X, ["y"], {"s": np.array([2**30, 4], np.int64)}
        ),
        "Expand node 'the_expand' makes a tensor of shape [1073741824, 4], which exceeds the limit of 134217728 "
        "elements per tensor and 268435456 in all; use a smaller input shape",
    ),
    "endless loop": (
        endless_loop,
        "node 'the_loop' (Loop): the operator is not supported; export with fixed input shapes so that the exporter "
        "can decide it",
    ),
    "operator of another domain": (
        lambda: edited(
            model([helper.make_node("Fancy", ["x"], ["y"], name="f", domain="com.example")], X),
            lambda p: p.opset_import.append(helper.make_opsetid("com.example", 1)),
        ),
        "node 'f' (Fancy): domain 'com.example' is not supported; export with standard ONNX operators only",
    ),
    "operator that does not exist": (
        lambda: model([node("Rellu", ["x"])], X),
        "node 'the_rellu' (Rellu): the operator is not supported; express it with the operators of docs/OPERATORS.md",
    ),
    "weights computed at run time": (
        lambda: model([node("Conv", ["x", "w"])], {**IMAGE, "w": [2, 3, 3, 3]}),
        "node 'the_conv' (Conv): its weight is computed at run time; make the weight a constant of the model",
    ),
    "3-D convolution": (
        lambda: model([node("Conv", ["x", "w"])], {"x": [1, 2, 4, 4, 4]}, ["y"], {"w": np.ones((1, 2, 1, 1, 1))}),
        "node 'the_conv' (Conv): its input has 5 dimensions; only 1-D [N,C,L] and 2-D [N,C,H,W] data can be used",
    ),
    "reflecting pad": (
        lambda: model([node("Pad", ["x", "p"], mode="reflect")], X, ["y"], {"p": np.array([0, 1, 0, 1], np.int64)}),
        "node 'the_pad' (Pad): mode 'reflect' is not supported; pad with zeros (mode='constant')",
    ),
    "linear resize": (
        lambda: model(
            [node("Resize", ["x", "", "s"], mode="linear")], IMAGE, ["y"], {"s": np.array([1, 1, 2, 2], np.float32)}
        ),
        "node 'the_resize' (Resize): mode 'linear' interpolates; use mode='nearest'",
    ),
    "training mode": (
        lambda: model(
            [node("BatchNormalization", ["x", *"gbmv"], ["y", "mean", "var"], training_mode=1)],
            IMAGE, ["y"], dict.fromkeys("gbmv", np.ones(3)),
        ),
        "node 'the_batchnormalization' (BatchNormalization): it is in training mode; export the model in inference "
        "mode (model.eval())",
    ),
    "quantized already": (
        lambda: model(
            [node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"])],
            X, ["y"], {"s": np.float32(0.1), "z": np.int8(0)},
        ),
        "2 nodes are not supported:\n"
        "  node 'the_quantizelinear' (QuantizeLinear): the operator is not supported; give the float model: edgekit "
        "quantizes it itself\n"
        "  node 'the_dequantizelinear' (DequantizeLinear): the operator is not supported; give the float model: "
        "edgekit quantizes it itself",
    ),
    "integers in the data path": (
        lambda: model(
            [node("Cast", ["x"], ["i"], to=TensorProto.INT64), node("Cast", ["i"], to=TensorProto.FLOAT)], X
        ),
        "node 'the_cast' (Cast): it turns computed values into INT64; keep the data path in float32",
    ),
    "division by zero": (
        lambda: model([node("Div", ["x", "c"])], X, ["y"], {"c": np.zeros(4)}),
        "node 'the_div' (Div): its divisor holds zeros; train or export the model again",
    ),
    "shape from data": (
        lambda: model([node("NonZero", ["x"], ["n"]), node("Cast", ["n"], to=TensorProto.FLOAT)], X),
        "node 'the_nonzero' (NonZero): the operator is not supported; express it with the operators of "
        "docs/OPERATORS.md",
    ),
    "output is an input": (
        lambda: edited(relu(), lambda m: m.graph.output.append(m.graph.input[0])),
        "output 'x' is an input; remove it from the outputs",
    ),
    "input with too many dimensions": (
        lambda: model([node("Relu", ["x"])], {"x": [1, 2, 1, 2, 1, 2, 1]}),
        "input 'x' has 7 dimensions; use at most 6",
    ),
    "too many dimensions": (
        lambda: model([node("Reshape", ["x", "s"])], {"x": [1, 4]}, ["y"], {"s": np.array([1, 1, 2, 1, 2, 1, 1])}),
        "node 'the_reshape' (Reshape): a tensor has 7 dimensions; use at most 6",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_model(tmp_path: Path, name: str) -> None:
    make, message = BAD[name]
    (tmp_path / "short.bin").write_bytes(bytes(10))
    (tmp_path / "w.link").write_bytes(bytes(216))
    (tmp_path / "link.bin").symlink_to(tmp_path / "w.link")
    proto = make()
    path = tmp_path / "model.onnx"
    path.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
    with pytest.raises(ModelError) as caught:
        load(path)
    text = str(caught.value)
    start, _, end = f"{path}: {message}".partition("...")
    assert (
        text.startswith(start)
        and text.endswith(end)
        and (len(end) == 0) <= ("..." in message or text == start)
    )
    assert "..." in message or text == f"{path}: {message}"
    assert "\n" not in text or "nodes are not supported:\n" in text


def test_there_are_enough_kinds() -> None:
    assert len(BAD) >= 25


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no such file or directory; give the path of an \.onnx file"):
        load(tmp_path / "model.onnx")


def test_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"not a file; give the path of an \.onnx file"):
        load(tmp_path)


@pytest.mark.parametrize(
    "shapes, message",
    [
        ({"z": [1, 3]}, "no input 'z' to give a shape to; the inputs are x"),
        (
            {"x": [1, 5, 7]},
            "shape 1,5,7 for input 'x' contradicts the model's n,5; only symbolic dimensions can be",
        ),
        (
            {"x": [1, 6]},
            "shape 1,6 for input 'x' contradicts the model's n,5; only symbolic dimensions can be given",
        ),
        ({"x": [0, 5]}, "shape 0,5 for input 'x' must be positive numbers"),
        ({"x": []}, "shape  for input 'x' must be positive numbers"),
    ],
)
def test_bad_input_shape(tmp_path: Path, shapes: dict[str, list[int]], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        import_model(tmp_path, model([node("Relu", ["x"])], {"x": ["n", 5]}), input_shapes=shapes)


def test_all_unsupported_nodes_are_listed(tmp_path: Path) -> None:
    nodes = [
        node("Pad", ["x", "p"], ["a"], mode="edge"),
        node("LSTM", ["a", "w", "r"], ["b"], hidden_size=2),
        node("ArgMax", ["a"], ["m"]),
        helper.make_node("Fancy", ["a"], ["c"], domain="com.example"),
        node("Softmax", ["c"], ["d"]),
        node("ConvTranspose", ["x4", "k"], ["e"]),
        node("Div", ["x4", "e"], ["f"]),
    ]
    constants = {
        "p": np.array([0, 1, 0, 0, 1, 0], np.int64),
        "w": np.ones((1, 8, 3)), "r": np.ones((1, 8, 2)), "k": np.ones((2, 2, 1, 1)),
    }  # fmt: skip
    proto = model(nodes, {"x": [4, 1, 3], "x4": [1, 2, 3, 3]}, ["b", "m", "d", "e", "f"], constants)
    proto.opset_import.append(helper.make_opsetid("com.example", 1))
    proto.graph.output[1].type.tensor_type.elem_type = TensorProto.INT64
    with pytest.raises(ModelError) as caught:
        import_model(tmp_path, proto)
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("6 nodes are not supported:")
    assert lines[1:] == [
        "  node 'the_pad' (Pad): mode 'edge' is not supported; pad with zeros (mode='constant')",
        "  node 'the_lstm' (LSTM): the operator is not supported; recurrent layers are not supported; use "
        "convolutions over time",
        "  node 'the_argmax' (ArgMax): the operator is not supported; do it outside of the model, on its float outputs",
        "  node 'c' (Fancy): domain 'com.example' is not supported; export with standard ONNX operators only",
        "  node 'the_convtranspose' (ConvTranspose): the operator is not supported; use Resize (nearest) and Conv",
        "  node 'the_div' (Div): it divides two computed tensors; only constants can divide or be divided",
    ]


@pytest.mark.parametrize("seed", range(3))
def test_damaged_bytes_never_cause_another_error(tmp_path: Path, seed: int) -> None:
    """Flipped, lost and repeated bytes of a real model: it loads, or it is refused with a ModelError."""
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    nodes = [
        node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        node("Relu", ["a"], ["b"]),
        node("MaxPool", ["b"], ["c"], kernel_shape=[2, 2], ceil_mode=1),
        node("Flatten", ["c"], ["d"]),
        node("Gemm", ["d", "g"], ["y"]),
    ]
    proto = model(nodes, IMAGE, ["y"], {"w": np.ones((2, 3, 3, 3)), "g": np.ones((98, 2))})
    original = proto.SerializeToString()
    path = tmp_path / "model.onnx"
    structure = [i for i in range(len(original)) if original[i : i + 4] != b"\x00\x00\x80\x3f"]
    for _ in range(200):
        data = bytearray(original)
        for position in rng.choice(structure, rng.integers(1, 4)):
            data[position] = rng.integers(256)
        if rng.random() < 0.3:
            cut = int(rng.integers(len(data)))
            del data[cut : cut + int(rng.integers(1, 20))]
        path.write_bytes(data)
        try:
            load(path)
        except ModelError as error:
            assert str(error).startswith(f"{path}: ")
