# SPDX-License-Identifier: Apache-2.0
"""What importing does to whole models: simplification, types, shapes, names and statistics."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import onnx
import onnxslim
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.importer import load, ports, simplify
from edgekit.importer.check import MAX_OPSET
from edgekit.importer.session import FloatModel, create_session
from edgekit.importer.support import DOCUMENT, table
from tests.importer.tapped import compare, feeds_of, import_model, model, node, ops, run_tapped
from tests.onnx_runtime import need_opset

MODELS = ["ad01_autoencoder", "fashion_dscnn", "ic01_resnet8", "kws01_dscnn", "vww01_mobilenetv1_025"]


@pytest.mark.parametrize("name", MODELS)
def test_reference_model(shared: Path, name: str) -> None:
    """Every value with a source equals ONNX Runtime's, and the model computes what the file does."""
    path = shared / "models" / f"{name}.onnx"
    imported = load(path)
    compare(imported, 7, tolerance=1e-5)
    assert imported.warnings == []
    original = onnx.load(path)
    feeds = feeds_of(imported, 7)
    expected = create_session(original).run(None, feeds)
    got = create_session(imported.model).run(None, feeds)
    for x, y in zip(expected, got, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
    assert [p.name for p in imported.graph.inputs] == [i.name for i in original.graph.input]
    assert [p.name for p in imported.graph.outputs] == [o.name for o in original.graph.output]


def test_batch_norm_statistics_of_a_reference_model(shared: Path) -> None:
    imported = load(shared / "models" / "fashion_dscnn.onnx")
    norms = [n for n in imported.model.graph.node if n.op_type == "BatchNormalization"]
    stats = imported.graph.batch_norm_stats
    assert len(norms) == 15
    sources = {imported.graph.values[name].source for name in stats}
    assert sources == {t for n in norms for t in (n.input[0], n.output[0])}
    for name, (mean, std) in stats.items():
        assert mean.shape == std.shape == imported.graph.values[name].shape[-1:]


def test_digits_example(digits: Path) -> None:
    compare(load(digits / "digits.onnx"), 3, tolerance=1e-5)


def test_graph_is_in_topological_order_with_one_writer_per_value(shared: Path) -> None:
    graph = load(shared / "models" / "ic01_resnet8.onnx").graph
    known = {p.value for p in graph.inputs} | {v.name for v in graph.values.values() if v.data is not None}
    for n in graph.nodes:
        assert set(n.inputs) <= known
        assert not set(n.outputs) & known
        known |= set(n.outputs)
    assert known == set(graph.values)


def test_operator_table_is_current() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == table(), "run python -m edgekit.importer.support"


def test_nodes_in_any_order(tmp_path: Path) -> None:
    imported = import_model(tmp_path, model([node("Neg", ["a"]), node("Relu", ["x"], ["a"])], {"x": [3]}))
    compare(imported, 1)
    assert [n.op_type for n in imported.model.graph.node] == ["Relu", "Neg"]


def test_shape_arithmetic_is_folded(tmp_path: Path) -> None:
    """x.view(x.size(0), -1) as PyTorch exports it."""
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"], axis=0),
        node("Unsqueeze", ["n", "axes"], ["n1"]),
        node("Concat", ["n1", "minus"], ["target"], axis=0),
        node("Reshape", ["x", "target"]),
    ]
    constants = {"zero": np.array(0), "axes": np.array([0]), "minus": np.array([-1])}
    imported = import_model(tmp_path, model(nodes, {"x": [2, 3, 4]}, ["y"], constants))
    compare(imported, 1)
    assert ops(imported) == ["Reshape"]
    assert imported.graph.outputs[0].shape == (2, 12)


def test_constants_are_folded_and_shared(tmp_path: Path) -> None:
    nodes = [
        node("Constant", [], ["half"], value_float=0.5),
        node("Mul", ["w", "half"], ["v"]),
        node("Transpose", ["v"], ["t"], perm=[1, 0]),
        node("MatMul", ["x", "t"]),
    ]
    imported = import_model(tmp_path, model(nodes, {"x": [2, 4]}, ["y"], {"w": np.ones((3, 4))}))
    compare(imported, 1)
    assert ops(imported) == ["Dense"]


def test_inputs_that_are_initializers_are_constants(tmp_path: Path) -> None:
    proto = model(
        [node("Gemm", ["x", "w"])], {"x": [1, 3], "w": [3, 2]}, ["y"], {"w": np.ones((3, 2))}, ir_version=3
    )
    assert [p.name for p in import_model(tmp_path, proto).graph.inputs] == ["x"]


def test_external_data_beside_the_model(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((3, 2)).astype(np.float32)
    proto = model([node("Gemm", ["x", "w"])], {"x": [1, 3]}, ["y"], {"w": weight})
    (tmp_path / "weights").mkdir()
    onnx.save(
        proto,
        tmp_path / "model.onnx",
        save_as_external_data=True,
        location="weights/all.bin",
        size_threshold=0,
    )
    imported = load(tmp_path / "model.onnx")
    compare(imported, 1)
    assert np.array_equal(imported.graph.values["w"].data, weight.T)


def test_external_data_in_a_linked_folder_is_refused(tmp_path: Path) -> None:
    proto = model([node("Gemm", ["x", "w"])], {"x": [1, 3]}, ["y"], {"w": np.ones((3, 2))})
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "w.bin").write_bytes(bytes(24))
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="link/w.bin")
    (tmp_path / "model" / "m.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(simplify.ModelError, match="is a symbolic link"):
        load(tmp_path / "model" / "m.onnx")


def test_functions_are_inlined(tmp_path: Path) -> None:
    body = [
        helper.make_node("Sigmoid", ["a"], ["s"]),
        helper.make_node("Mul", ["a", "s"], ["b"]),
    ]
    imports = [helper.make_opsetid("", 17)]
    function = helper.make_function("local", "silu", ["a"], ["b"], body, imports)
    call = helper.make_node("silu", ["x"], ["y"], domain="local")
    proto = model([call], {"x": [4]}, functions=[function])
    proto.opset_import.append(helper.make_opsetid("local", 1))
    imported = import_model(tmp_path, proto)
    compare(imported, 1)
    assert ops(imported) == ["Unary", "Mul"]


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_precisions_become_float32(tmp_path: Path, dtype: type) -> None:
    elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    weight = np.random.default_rng(0).standard_normal((3, 2)).astype(dtype)
    nodes = [
        node("Cast", ["x"], ["c"], to=elem_type),
        node("Gemm", ["c", "w"], ["g"]),
        node("Constant", [], ["one"], value=numpy_helper.from_array(np.array(1.0, dtype))),
        node("Add", ["g", "one"]),
    ]
    proto = model(nodes, {"x": [2, 3]}, elem_type=elem_type)
    proto.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    imported = import_model(tmp_path, proto)
    compare(imported, 1)
    assert len(imported.warnings) == 1
    assert f"{np.dtype(dtype).name.replace('64', '').replace('float', 'float')}"[:5] in imported.warnings[0]
    assert imported.warnings[0].endswith("data is converted to float32")


def test_weights_beyond_float32_are_refused(tmp_path: Path) -> None:
    proto = model([node("Add", ["x", "w"])], {"x": [2]}, elem_type=TensorProto.DOUBLE)
    proto.graph.initializer.append(numpy_helper.from_array(np.array([1e300, 1.0]), "w"))
    with pytest.raises(simplify.ModelError, match="initializer 'w' holds numbers beyond float32"):
        import_model(tmp_path, proto)


def test_integer_input_that_is_cast_becomes_float(tmp_path: Path) -> None:
    proto = model([node("Cast", ["x"], ["f"], to=TensorProto.FLOAT), node("Relu", ["f"])], {"x": [1, 4]})
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    imported = import_model(tmp_path, proto)
    compare(imported, 1)
    assert imported.model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert "input 'x' is uint8 and cast to float at once; it becomes a float32 input" in imported.warnings[0]


def test_leading_symbolic_dimension_is_one(tmp_path: Path) -> None:
    imported = import_model(tmp_path, model([node("Relu", ["x"])], {"x": ["batch", 3]}))
    assert imported.graph.inputs[0].shape == (1, 3)
    assert imported.warnings[0].endswith("batch dimension 'batch' of input 'x' is set to 1")


def test_symbolic_dimensions_are_pinned(tmp_path: Path) -> None:
    proto = model([node("Conv", ["x", "w"])], {"x": ["n", 3, "h", "w_"]}, ["y"], {"w": np.ones((2, 3, 3, 3))})
    imported = import_model(tmp_path, proto, input_shapes={"x": [2, 3, 9, 7]})
    compare(imported, 1)
    assert imported.graph.inputs[0].shape == (2, 3, 9, 7)
    assert imported.graph.outputs[0].shape == (2, 2, 7, 5)
    assert imported.warnings == []


def test_one_dimension_is_not_taken_for_a_batch(tmp_path: Path) -> None:
    with pytest.raises(simplify.ModelError, match="dimension 'n' of input 'x' is not a positive number"):
        import_model(tmp_path, model([node("Relu", ["x"])], {"x": ["n"]}))


def test_wrong_declared_shapes_are_ignored(tmp_path: Path) -> None:
    proto = model([node("Relu", ["x"], ["a"]), node("Neg", ["a"])], {"x": ["n", 3]})
    proto.graph.value_info.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, [7, 7]))
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["m", 8]))
    assert import_model(tmp_path, proto).graph.outputs[0].shape == (1, 3)


@pytest.mark.parametrize("opset", range(9, MAX_OPSET + 1))
def test_every_opset(tmp_path: Path, opset: int) -> None:
    need_opset(onnx.defs.get_schema("Flatten", opset, "").since_version)
    nodes = [
        node("Conv", ["x", "w"], ["a"], auto_pad="SAME_UPPER"),
        node("Relu", ["a"], ["b"]),
        node("MaxPool", ["b"], ["c"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["c"], ["d"]),
        node("Gemm", ["d", "g", "z"], ["e"]),
        node("Softmax", ["e"]),
    ]
    constants = {"w": np.ones((2, 3, 3, 3)), "g": np.ones((32, 2)) / 32, "z": np.zeros(2)}
    proto = model(nodes, {"x": [1, 3, 8, 8]}, ["y"], constants, opset, ir_version=10)
    compare(import_model(tmp_path, proto), opset)


@pytest.mark.parametrize("opset", [24, 25, MAX_OPSET])
def test_newer_opset_than_the_operators_need(tmp_path: Path, opset: int) -> None:
    need_opset(24)
    imported = import_model(tmp_path, model([node("Swish", ["x"])], {"x": [5]}, opset=opset, ir_version=10))
    compare(imported, 1)
    assert imported.model.opset_import[0].version == 24


def test_operator_newer_than_onnx_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "newest_opset", lambda limit: 23)
    with pytest.raises(
        simplify.ModelError, match=r"node 'the_swish' \(Swish\) has its meaning of opset 24, ONNX"
    ):
        import_model(tmp_path, model([node("Swish", ["x"])], {"x": [5]}, opset=26, ir_version=10))


def test_nodes_without_a_name_are_called_by_their_output(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["a"]), node("Neg", ["a"], ["b"]), node("Neg", ["b"])]
    graph = import_model(tmp_path, model(nodes, {"x": [5]})).graph
    assert [n.name for n in graph.nodes] == ["a", "the_neg", "the_neg (y)"]


@pytest.mark.parametrize("failure", ["raises", "changes the result", "renames an output"])
def test_simplifier_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: str) -> None:
    def broken(proto: onnx.ModelProto, **options: object) -> onnx.ModelProto:
        if failure == "raises":
            raise RuntimeError("internal error")
        if failure == "changes the result":
            proto.graph.node[0].op_type = "Neg"
        else:
            proto.graph.node[1].output[0] = "z"
            proto.graph.output[0].name = "z"
        return proto

    monkeypatch.setattr(onnxslim, "slim", broken)
    imported = import_model(tmp_path, model([node("Relu", ["x"], ["a"]), node("Abs", ["a"])], {"x": [5]}))
    compare(imported, 1)
    assert [n.op_type for n in imported.model.graph.node] == ["Relu", "Abs"]


def test_large_weights_are_kept_out_of_the_clean_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slim, seen = onnxslim.slim, []

    def watched(proto: onnx.ModelProto, **options: object) -> onnx.ModelProto:
        seen.extend(t.name for t in proto.graph.initializer)
        return slim(proto, **options)

    monkeypatch.setattr(onnxslim, "slim", watched)
    weights = {"w": np.ones((64, 40), np.float32), "b": np.ones(64, np.float32)}
    nodes = [node("Identity", ["x"], ["a"]), helper.make_node("Gemm", ["a", "w", "b"], ["y"], transB=1)]
    imported = import_model(tmp_path, model(nodes, {"x": [1, 40]}, constants=weights))
    assert seen == ["b"]
    assert {t.name for t in imported.model.graph.initializer} == {"w", "b"}
    assert [n.op_type for n in imported.model.graph.node] == ["Gemm"]
    compare(imported, 1)


def named(op: str, inputs: list[str], output: str = "y") -> onnx.NodeProto:
    return helper.make_node(op, inputs, [output], name=output)


def residual(more: list[onnx.NodeProto], **constants: np.ndarray) -> onnx.ModelProto:
    """Two convolutions of one tensor, with what a case adds."""
    ones = {"w": np.ones((40, 40, 1, 1)), "v": np.ones((40, 40, 1, 1)), "b": np.ones(40)}
    convolutions = [named("Conv", ["x", "w", "b"], "a"), named("Conv", ["x", "v", "b"], "c")]
    nodes = [*convolutions, named("Relu", ["a"], "d"), *more]
    return model(nodes, {"x": [1, 40, 6, 6]}, constants={**ones, **constants})


CLEAN = [named("Add", ["c", "d"])]
UNCLEAN = {
    "idle": residual([named("Identity", ["d"], "e"), named("Add", ["c", "e"])]),
    "dead": residual([named("Sigmoid", ["d"], "e"), named("Add", ["c", "d"])]),
    "double": residual([named("Relu", ["a"], "e"), named("Add", ["e", "d"])]),
    "double by value": residual(
        [
            named("PRelu", ["c", "s"], "e"),
            named("PRelu", ["c", "t"], "f"),
            named("Sub", ["e", "d"], "g"),
            named("Add", ["g", "f"]),
        ],
        s=np.full(1, 0.5),
        t=np.full(1, 0.5),
    ),
    "neutral": residual([named("Mul", ["d", "one"], "e"), named("Add", ["c", "e"])], one=np.ones(())),
}


def slimmed(proto: onnx.ModelProto) -> list[bytes]:
    light = simplify._without_weights(proto)
    return simplify._unordered_nodes(onnxslim.slim(light, skip_optimizations=simplify.SLIM_SKIPS))


def test_what_counts_as_clean_onnxslim_leaves_as_it_is() -> None:
    proto = residual(CLEAN)
    assert simplify.is_clean(proto)
    assert slimmed(proto) == simplify._unordered_nodes(proto)


@pytest.mark.parametrize("case", UNCLEAN)
def test_what_onnxslim_would_remove_does_not_count_as_clean(case: str) -> None:
    assert not simplify.is_clean(UNCLEAN[case])
    assert len(slimmed(UNCLEAN[case])) < len(UNCLEAN[case].graph.node)


def test_a_clean_model_does_without_onnxslim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    monkeypatch.setattr(onnxslim, "slim", lambda *args, **options: called.append(args))
    compare(import_model(tmp_path, residual(CLEAN)), 1)
    assert not called
    import_model(tmp_path, UNCLEAN["idle"])
    assert called


def test_doubled_and_idle_nodes_go(tmp_path: Path) -> None:
    nodes = [
        node("Relu", ["x"], ["a"]),
        node("Relu", ["x"], ["b"]),
        node("Identity", ["b"], ["c"]),
        node("Neg", ["x"], ["unused"]),
        node("Add", ["a", "c"]),
    ]
    imported = import_model(tmp_path, model(nodes, {"x": [5]}))
    compare(imported, 1)
    assert [n.op_type for n in imported.model.graph.node] == ["Relu", "Add"]


def test_a_view_is_made_once(tmp_path: Path) -> None:
    """Two convolutions of one tensor share its transposition, and the second of two in a row needs none."""
    nodes = [
        node("Conv", ["x", "w"], ["a"]),
        node("Conv", ["x", "w"], ["b"], strides=[1, 1], dilations=[1, 1], pads=[1, 1, 1, 1]),
        node("Conv", ["a", "w"], ["c"]),
    ]
    imported = import_model(
        tmp_path, model(nodes, {"x": [1, 2, 9, 9]}, ["b", "c"], {"w": np.ones((2, 2, 3, 3))})
    )
    compare(imported, 1)
    conv = [n for n in imported.graph.nodes if n.op == "Conv"]
    assert conv[0].inputs[0] == conv[1].inputs[0]
    assert conv[2].inputs[0] == conv[0].outputs[0]


def test_infinite_bounds_of_clip_are_accepted(tmp_path: Path) -> None:
    constants = {"lo": np.float32(0), "hi": np.float32(np.inf)}
    imported = import_model(tmp_path, model([node("Clip", ["x", "lo", "hi"])], {"x": [5]}, ["y"], constants))
    assert imported.graph.nodes[0].attrs["params"] == {"lo": 0.0, "hi": np.inf}


def test_tensor_names_survive(shared: Path) -> None:
    """Names of activations that the file has are those that the graph refers to."""
    path = shared / "models" / "fashion_dscnn.onnx"
    imported = load(path)
    names = {o for n in onnx.load(path).graph.node for o in n.output}
    sources = {v.source for v in imported.graph.values.values() if v.source is not None}
    assert names <= sources
    assert set(run_tapped(imported.model, feeds_of(imported, 0))) >= names


def test_large_weights_are_held_beside_the_model(tmp_path: Path, rng: np.random.Generator) -> None:
    """A session has them even when the model is gone, and the whole model is what it was."""
    w = rng.standard_normal((40, 50)).astype(np.float32)
    b = rng.standard_normal(50).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"]), helper.make_node("Relu", ["y"], ["z"])],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 40])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 50])],
        [numpy_helper.from_array(w, "w"), numpy_helper.from_array(b, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    float_model = FloatModel(model)
    assert list(float_model.weights) == ["w"]
    assert len(float_model.light.SerializeToString()) < w.nbytes / 10
    assert float_model.whole() == model
    session = create_session(float_model, ["y"])
    assert [p.name for p in float_model.light.graph.output] == ["z"]
    del float_model, model, graph
    gc.collect()
    x = rng.standard_normal((1, 40)).astype(np.float32)
    (y,) = session.run(None, {"x": x})
    np.testing.assert_allclose(y, x @ w + b, rtol=1e-4, atol=1e-4)
