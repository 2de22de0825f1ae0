# SPDX-License-Identifier: Apache-2.0
"""Every rewrite where it applies and where it must not; values are compared with ONNX Runtime each time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx
import pytest

from edgekit.graph import Graph, Node, Port, Value
from edgekit.importer import load
from edgekit.passes import evaluate, optimize, unary
from edgekit.passes.affine import affine_of
from edgekit.passes.bounds import known_ranges
from edgekit.passes.edit import Editor
from edgekit.passes.transposes import swap_with_reshape
from tests.passes import nets
from tests.passes.nets import Net


@pytest.fixture
def net(rng) -> Net:
    return Net(rng)


@pytest.fixture
def optimized(tmp_path, rng) -> Callable[..., Graph]:
    """Net and output names -> the optimized graph, after its values have been checked."""

    def build(net: Net, *outputs: str) -> Graph:
        path = tmp_path / "net.onnx"
        onnx.save(net.model(*outputs), path)
        imported = load(path)
        inputs = nets.random_inputs(imported.model, rng)
        expected = nets.run_onnx(imported.model, inputs)
        optimize(imported.graph)
        got = evaluate.outputs(imported.graph, evaluate.evaluate(imported.graph, inputs))
        for name, array in expected.items():
            np.testing.assert_allclose(got[name], array, rtol=1e-3, atol=1e-4)
        return imported.graph

    return build


def ops(graph: Graph) -> dict[str, int]:
    """Operators and their number, without those that only move values."""
    return dict(Counter(n.op for n in graph.nodes if n.op not in ("Transpose", "Reshape")))


def transposes(graph: Graph) -> int:
    """Transposes that do not stand at a model input or output."""
    inputs = {p.value for p in graph.inputs}
    return sum(
        n.op == "Transpose" and n.inputs[0] not in inputs and not graph.is_output(n.outputs[0]) for n in graph.nodes
    )


def only(graph: Graph, op: str) -> Node:
    (node,) = (n for n in graph.nodes if n.op == op)
    return node


# Activations.


@pytest.mark.parametrize("name", nets.SPELLED_OUT)
def test_spelled_out_activation_is_one_named_function(name, net, optimized):
    x = nets.SPELLED_OUT[name](net, net.conv(net.input(1, 2, 6, 5), 4))
    graph = optimized(net, net.conv(x, 3, 1))
    assert ops(graph) == {"Conv": 2, "Unary": 1}
    ((fn, params),) = unary.chain(only(graph, "Unary"))
    expected = name.split()
    assert fn == expected[0]
    if fn == "Gelu":
        assert params["approximate"] == int(expected[1])


def test_swish_with_a_factor(net, optimized):
    x = net.input(1, 8)
    gate = net.op("Sigmoid", net.op("Mul", x, net.constant(1.702)))
    ((fn, params),) = unary.chain(only(optimized(net, net.op("Mul", gate, x)), "Unary"))
    assert fn == "Swish" and params["alpha"] == pytest.approx(1.702)


def test_an_activation_without_a_name_is_one_table(net, optimized):
    x = net.input(1, 8)
    y = net.op("Sub", net.op("Tanh", x), net.op("Mul", net.op("Exp", x), net.constant(0.25)))
    graph = optimized(net, net.op("Sigmoid", y))
    assert ops(graph) == {"Unary": 1}


def test_functions_of_two_values_stay(net, optimized):
    a, b = net.input(1, 8), net.input(1, 8)
    assert ops(optimized(net, net.op("Mul", a, net.op("Sigmoid", b)))) == {"Mul": 1, "Unary": 1}


def test_function_and_gate_of_another_shape_stay(net, optimized):
    x = net.input(1, 4, 5, 5)
    graph = optimized(net, net.op("Mul", x, net.op("Sigmoid", net.op("GlobalAveragePool", x))))
    assert ops(graph)["Mul"] == 1


def test_a_function_that_is_read_elsewhere_keeps_its_node(net, optimized):
    x = net.input(1, 8)
    gate = net.op("Sigmoid", x)
    graph = optimized(net, net.op("Mul", x, gate), gate)
    assert ops(graph) == {"Unary": 2}


def test_unary_nodes_in_a_row_become_one(net, optimized):
    x = net.op("Tanh", net.op("Exp", net.op("Neg", net.input(1, 8))))
    graph = optimized(net, net.op("Add", net.op("Mul", x, net.constant(3.0)), net.constant(1.0)))
    assert [fn for fn, _ in unary.chain(only(graph, "Unary"))] == ["Neg", "Exp", "Tanh", "Affine", "Affine"]


def test_unary_node_that_is_read_twice_is_not_merged(net, optimized):
    x = net.op("Exp", net.op("Neg", net.input(1, 8)))
    graph = optimized(net, net.op("Tanh", x), net.op("Sigmoid", x))
    assert ops(graph) == {"Unary": 3}


# Affine functions.


@pytest.mark.parametrize("norm", ["batch_norm", "affine"])
@pytest.mark.parametrize("layer", ["conv", "depthwise", "grouped", "gemm"])
def test_norm_behind_a_layer_is_folded(layer, norm, net, optimized):
    if layer == "gemm":
        x = net.gemm(net.input(2, 6), 8)
    else:
        x = net.input(1, 4, 6, 5)
        x = {"conv": lambda: net.conv(x, 6), "depthwise": lambda: net.depthwise(x, multiplier=2), "grouped": lambda: net.conv(x, 6, groups=2)}[layer]()  # fmt: skip
    if layer == "gemm" and norm == "affine":
        y = net.op("Add", net.op("Mul", x, net.random(1, 8)), net.random(8))
    else:
        y = getattr(net, norm)(x)
    graph = optimized(net, net.op("Relu", y))
    (op,) = ops(graph)
    node = only(graph, op)
    assert node.op in ("Conv", "DepthwiseConv", "Dense") and node.attrs["clip"] == (0.0, math.inf)


def test_number_behind_a_layer_is_folded(net, optimized):
    x = net.op("Div", net.conv(net.input(1, 2, 5, 5), 4), net.constant(6.0))
    assert ops(optimized(net, net.op("Sub", net.constant(1.0), x))) == {"Conv": 1}


def test_norm_of_a_value_with_two_readers_is_not_folded(net, optimized):
    x = net.conv(net.input(1, 2, 5, 5), 4)
    graph = optimized(net, net.op("Add", net.batch_norm(x), x))
    assert ops(graph) == {"Conv": 1, "DepthwiseConv": 1, "Add": 1}


def test_norm_of_a_model_output_is_not_folded(net, optimized):
    x = net.conv(net.input(1, 2, 5, 5), 4)
    assert ops(optimized(net, x, net.batch_norm(x))) == {"Conv": 1, "DepthwiseConv": 1}


def test_norm_in_front_is_folded_where_nothing_is_padded(net, optimized):
    x = net.op("Sigmoid", net.input(1, 4, 6, 6))
    assert ops(optimized(net, net.conv(net.batch_norm(x), 6, groups=2, pads=[0] * 4))) == {"Unary": 1, "Conv": 1}


def test_scale_in_front_is_folded_even_under_padding(net, optimized):
    x = net.op("Mul", net.op("Sigmoid", net.input(1, 4, 6, 6)), net.random(4, 1, 1))
    assert ops(optimized(net, net.depthwise(x, multiplier=2))) == {"Unary": 1, "DepthwiseConv": 1}


def test_offset_in_front_of_padding_stays(net, optimized):
    x = net.batch_norm(net.op("Sigmoid", net.input(1, 4, 6, 6)))
    assert ops(optimized(net, net.conv(x, 6))) == {"Unary": 1, "DepthwiseConv": 1, "Conv": 1}


@pytest.mark.parametrize("shape", [(1, 6), (3, 6), (1, 6, 5), (1, 6, 4, 4)])
def test_leftover_norm_is_one_depthwise_convolution(shape, net, optimized):
    x = net.op("Sigmoid", net.input(*shape))
    graph = optimized(net, net.op("Relu", net.batch_norm(x)))
    assert ops(graph) == {"Unary": 1, "DepthwiseConv": 1}
    assert only(graph, "DepthwiseConv").attrs["clip"] == (0.0, math.inf)


def test_what_varies_over_positions_stays(net, optimized):
    x = net.op("Add", net.conv(net.input(1, 2, 5, 5), 4), net.random(1, 4, 5, 5))
    graph = optimized(net, net.op("Relu", x))
    assert ops(graph) == {"Conv": 1, "Add": 1} and only(graph, "Add").attrs["clip"] == (0.0, math.inf)


def test_weights_that_would_overflow_are_not_folded(net, optimized):
    w = net.constant(np.full((2, 3), 1e30))
    x = net.op("Gemm", net.op("Mul", net.input(1, 3), net.constant(1e-30)), w, transB=1)
    graph = optimized(net, net.op("Mul", net.op("Mul", x, net.constant(1e-30)), net.constant([1e38, 2.0])))
    assert all(np.isfinite(v.data).all() for v in graph.values.values() if v.data is not None)


# Clips.


@pytest.mark.parametrize(("lo", "hi"), [(0.0, 6.0), (-0.5, 0.25)])
def test_clips_in_a_row_are_fused(lo, hi, net, optimized):
    x = net.op("Clip", net.op("Relu", net.conv(net.input(1, 2, 5, 5), 4)), net.constant(lo), net.constant(hi))
    assert only(optimized(net, x), "Conv").attrs["clip"] == (max(lo, 0.0), hi)


def test_clip_of_a_value_with_two_readers_stays(net, optimized):
    x = net.conv(net.input(1, 2, 5, 5), 4)
    graph = optimized(net, net.op("Add", net.op("Relu", x), x))
    assert "clip" not in only(graph, "Conv").attrs
    assert ops(graph)["Unary"] == 1


def test_clip_behind_max_pool_goes_into_the_convolution(net, optimized):
    x = net.op("MaxPool", net.conv(net.input(1, 2, 6, 6), 4), kernel_shape=[2, 2])
    graph = optimized(net, net.op("Relu", x))
    assert ops(graph) == {"Conv": 1, "MaxPool": 1} and only(graph, "Conv").attrs["clip"] == (0.0, math.inf)


def test_clip_that_changes_nothing_goes(net, optimized):
    x = net.op("Relu", net.op("Sigmoid", net.input(1, 4)))
    assert ops(optimized(net, net.op("Clip", x, net.constant(-1.0), net.constant(1.0)))) == {"Unary": 1}


def test_statistics_of_a_clipped_value_are_those_before(net, optimized):
    x = net.batch_norm(net.conv(net.input(1, 2, 5, 5), 4))
    beta = onnx.numpy_helper.to_array(next(c for c in net.constants if c.name == net.nodes[-1].input[2]))
    graph = optimized(net, net.op("Relu", x))
    mean, std = graph.batch_norm_stats[only(graph, "Conv").outputs[0]]
    np.testing.assert_array_equal(mean, beta)
    assert (std >= 0).all()


# Pads.


def test_zero_pad_becomes_padding_of_a_convolution(net, optimized):
    x = net.op("Pad", net.op("Sigmoid", net.input(1, 2, 5, 5)), net.constant([0, 0, 1, 2, 0, 0, 0, 1], np.int64))
    graph = optimized(net, net.conv(x, 4, pads=[0, 0, 1, 0]))
    assert ops(graph) == {"Unary": 1, "Conv": 1} and only(graph, "Conv").attrs["pads"] == (1, 2, 1, 1)


def test_pad_at_the_model_input_becomes_padding(net, optimized):
    x = net.op("Pad", net.input(1, 2, 5, 5), net.constant([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
    graph = optimized(net, net.conv(x, 4, pads=[0] * 4))
    assert ops(graph) == {"Conv": 1} and transposes(graph) == 0


@pytest.mark.parametrize("pads", [[0, 1, 0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0, 0, 0]])
def test_pad_of_channels_or_by_another_value_stays(pads, net, optimized):
    value = 0.0 if pads[1] else 1.0
    x = net.op("Pad", net.op("Sigmoid", net.input(1, 2, 5, 5)), net.constant(pads, np.int64), net.constant(value))
    assert ops(optimized(net, net.conv(x, 4)))["Pad"] == 1


@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 1, 1, 1]])
@pytest.mark.parametrize("include", [0, 1])
def test_pad_in_front_of_average_pool(include, pads, net, optimized):
    x = net.op("Pad", net.op("Sigmoid", net.input(1, 2, 6, 6)), net.constant([0, 0, 1, 0, 0, 0, 1, 1], np.int64))
    graph = optimized(net, net.op("AveragePool", x, kernel_shape=[3, 3], pads=pads, count_include_pad=include))
    fits = include or not any(pads)
    assert ops(graph).get("Pad", 0) == (not fits)
    if fits:
        assert only(graph, "AveragePool").attrs["count_include_pad"]


@pytest.mark.parametrize(
    ("value", "fits"), [(0.0, True), (-1.0, True), (0.5, False), (float(np.finfo(np.float32).min), True)]
)
def test_pad_in_front_of_max_pool(value, fits, net, optimized):
    x = net.op("Relu", net.input(1, 2, 6, 6))
    x = net.op("Pad", x, net.constant([0, 0, 1, 1, 0, 0, 1, 1], np.int64), net.constant(value))
    graph = optimized(net, net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2]))
    assert ops(graph).get("Pad", 0) == (not fits)


def test_pad_that_fills_a_whole_window_stays(net, optimized):
    x = net.op("Pad", net.op("Relu", net.input(1, 2, 6, 6)), net.constant([0, 0, 2, 0, 0, 0, 0, 0], np.int64))
    assert ops(optimized(net, net.op("MaxPool", x, kernel_shape=[2, 2])))["Pad"] == 1


# Layout.


def test_residual_network_has_no_transposes(net, optimized):
    x = net.op("Relu", net.batch_norm(net.conv(net.input(1, 3, 8, 8), 4)))
    y = net.batch_norm(net.conv(net.op("Relu", net.batch_norm(net.conv(x, 4))), 4))
    x = net.op("Relu", net.op("Add", x, y))
    x = net.op("Concat", x, net.op("MaxPool", x, kernel_shape=[3, 3], pads=[1] * 4), axis=1)
    graph = optimized(net, net.gemm(net.op("Flatten", net.gate(x)), 3))
    assert transposes(graph) == 0


def test_one_dimensional_network_has_no_transposes(net, optimized):
    x = net.input(1, 3, 16)
    for _ in range(2):
        x = net.op("Conv", x, net.random(3, 3, 3, scale=0.3), pads=[1, 1])
        x = net.op("Relu", net.batch_norm(x))
    graph = optimized(net, net.gemm(net.op("Flatten", x), 3))
    assert transposes(graph) == 0 and ops(graph) == {"Conv": 2, "Dense": 1}


def test_channel_shuffle_is_one_transpose(net, optimized):
    x = net.shuffle(net.op("Relu", net.conv(net.input(1, 3, 6, 6), 8)), 2)
    graph = optimized(net, net.gemm(net.op("Flatten", net.op("GlobalAveragePool", net.conv(x, 4))), 2))
    assert transposes(graph) == 1


def test_nhwc_detour_vanishes(net, optimized):
    x = net.nhwc(net.conv(net.input(1, 3, 6, 6), 4))
    x = net.nchw(net.op("Relu", net.op("Add", net.op("Mul", x, net.random(4)), net.random(4))))
    graph = optimized(net, net.op("GlobalAveragePool", net.conv(x, 2)))
    assert transposes(graph) == 0 and ops(graph) == {"Conv": 2, "AveragePool": 1}


def test_input_that_is_used_in_both_layouts_is_transposed_once(net, optimized):
    x = net.input(1, 4, 6, 6)
    x = net.op("Concat", x, net.op("Relu", net.conv(x, 4)), axis=1)
    graph = optimized(net, net.op("GlobalAveragePool", net.conv(x, 2)))
    assert Counter(n.op for n in graph.nodes)["Transpose"] == 1


def test_flatten_of_channels_first_permutes_dense_weights(net, optimized):
    x = net.op("Sigmoid", net.conv(net.input(2, 3, 4, 5), 4))
    assert transposes(optimized(net, net.gemm(net.op("Flatten", x), 6))) == 0


def test_transpose_behind_dense_permutes_its_rows(net, optimized):
    x = net.op("Reshape", net.gemm(net.input(2, 5), 24), net.constant([2, 4, 3, 2], np.int64))
    graph = optimized(net, net.op("Sigmoid", net.op("Transpose", x, perm=[0, 2, 3, 1])))
    assert "Transpose" not in {n.op for n in graph.nodes}


def test_transpose_that_mixes_rows_stays(net, optimized):
    x = net.op("Reshape", net.gemm(net.input(2, 5), 24), net.constant([2, 4, 3, 2], np.int64))
    graph = optimized(net, net.op("Sigmoid", net.op("Transpose", x, perm=[2, 0, 1, 3])))
    assert "Transpose" in {n.op for n in graph.nodes}


def test_attention_keeps_its_values(net, optimized):
    x = net.input(1, 6, 8)
    q, k, v = (net.op("MatMul", x, net.random(8, 8, scale=0.3)) for _ in range(3))
    heads = [net.op("Transpose", net.op("Reshape", t, net.constant([1, 6, 2, 4], np.int64)), perm=p) for t, p in ((q, [0, 2, 1, 3]), (k, [0, 2, 3, 1]), (v, [0, 2, 1, 3]))]  # fmt: skip
    scores = net.op("Softmax", net.op("Mul", net.op("MatMul", *heads[:2]), net.constant(0.5)), axis=-1)
    y = net.op("Transpose", net.op("MatMul", scores, heads[2]), perm=[0, 2, 1, 3])
    y = net.op("Reshape", y, net.constant([1, 6, 8], np.int64))
    graph = optimized(net, net.op("Add", x, net.op("MatMul", y, net.random(8, 8))))
    assert ops(graph)["MatMul"] == 2


def test_swap_with_reshape_is_its_definition(rng):
    swaps = 0
    for _ in range(300):
        shape = tuple(int(n) for n in rng.choice([1, 2, 3, 4], size=int(rng.integers(2, 6))))
        perm = tuple(int(p) for p in rng.permutation(len(shape)))
        x = np.arange(math.prod(shape)).reshape(shape)
        output = random_reshape(rng, x.transpose(perm).shape)
        swapped = swap_with_reshape(shape, perm, output)
        if swapped is not None:
            middle, q = swapped
            np.testing.assert_array_equal(x.reshape(middle).transpose(q), x.transpose(perm).reshape(output))
            swaps += 1
    assert swaps > 100


def random_reshape(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[int, ...]:
    """`shape` with neighbours merged, dimensions split and dimensions of size 1 added, by chance."""
    result: list[int] = []
    for n in shape:
        choice = rng.integers(4)
        if choice == 0 and result:
            result[-1] *= n
        elif choice == 1 and n == 4:
            result += [2, 2]
        elif choice == 2:
            result += [n, 1]
        else:
            result.append(n)
    return tuple(result)


# Cleaning up.


def test_reshapes_merge_and_no_ops_vanish(net, optimized):
    x = net.input(2, 12)
    for shape in ([2, 3, 4], [6, 4], [2, 12]):
        x = net.op("Reshape", x, net.constant(shape, np.int64))
    assert [n.op for n in optimized(net, net.op("Sigmoid", x)).nodes] == ["Unary"]


def test_equal_nodes_are_computed_once(net, optimized):
    x = net.input(1, 4)
    graph = optimized(net, net.op("Mul", net.op("Exp", x), net.input(1, 4)), net.op("Add", net.op("Exp", x), net.input(1, 4)))
    assert ops(graph) == {"Unary": 1, "Mul": 1, "Add": 1}


def test_an_output_that_is_an_input_keeps_a_node(net, optimized):
    x = net.op("Transpose", net.op("Transpose", net.input(2, 3), perm=[1, 0]), perm=[1, 0])
    graph = optimized(net, x)
    assert graph.outputs[0].value != graph.inputs[0].value


def test_constants_are_folded_and_dead_nodes_go():
    graph = Graph("g", [Port("x", (2,), "x")], [Port("y", (2,), "y")])
    graph.values = {n: Value(n, (2,)) for n in ("x", "y", "k", "unused")}
    graph.values["c"] = Value("c", (2,), np.array([1, 4], np.float32))
    graph.nodes = [
        Node("Unary", "root", ["c"], ["k"], {"fn": "Sqrt", "params": {}}),
        Node("Mul", "mul", ["x", "k"], ["y"]),
        Node("Add", "dead", ["x", "x"], ["unused"]),
    ]
    optimize(graph)
    assert "unused" not in graph.values
    result = evaluate.evaluate(graph, {"x": np.array([1, 1])})
    assert evaluate.outputs(graph, result)["y"].tolist() == [1, 2]


def test_known_ranges(net, optimized):
    x = net.op("Softmax", net.gemm(net.input(1, 4), 4))
    graph = optimized(net, net.op("Mul", net.op("Sub", net.constant(1.0), x), net.constant(2.0)))
    assert known_ranges(graph)[graph.outputs[0].value] == (0.0, 2.0)
    assert known_ranges(graph)[graph.inputs[0].value] == (-math.inf, math.inf)


def test_affine_of_constant_minus_value():
    graph = Graph("g", [Port("x", (1, 2), "x")], [Port("y", (1, 2), "y")])
    graph.values = {"x": Value("x", (1, 2)), "y": Value("y", (1, 2)), "c": Value("c", (2,), np.array([1, 2], np.float32))}
    graph.nodes = [Node("Sub", "s", ["c", "x"], ["y"])]
    affine = affine_of(Editor(graph), graph.nodes[0])
    assert affine is not None and affine.mul == -1 and affine.add.tolist() == [1, 2]
