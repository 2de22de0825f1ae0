# SPDX-License-Identifier: Apache-2.0
"""Removing channels: the smaller model computes what the original does with those channels at zero."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgekit.data import InputSpec, Preprocessing, open_data
from edgekit.errors import DataError, InputError, ModelError
from edgekit.importer import load
from edgekit.prune import prune_structured, statistics
from edgekit.prune.channels import FIXED, ChannelGraph, attributes, static_shapes
from edgekit.prune.magnitude import output_axis
from edgekit.prune.structured import choose, magnitude_scores, removal_count, remove
from tests.passes import nets
from tests.passes.nets import Net


def zeroed(model: onnx.ModelProto, graph: ChannelGraph, removed: set[int]) -> onnx.ModelProto:
    """`model` with weights, biases and batch norms of the removed channels at zero, inputs of layers untouched."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    inner = {
        (node.input[1], axis)
        for node in model.graph.node
        if node.op_type in ("Conv", "Gemm", "MatMul")
        for axis in (0, 1)
        if axis != output_axis(node, 2)
    }
    for tensor in copy.graph.initializer:
        data = numpy_helper.to_array(tensor).copy()
        for cut in graph.cuts:
            if cut.tensor == tensor.name and not (cut.weight and (cut.tensor, cut.axis) in inner):
                gone = [i for i, n in enumerate(cut.labels) if n != FIXED and graph.units.find(int(n)) in removed]
                np.moveaxis(data, cut.axis, 0)[gone] = 0
        tensor.CopyFrom(numpy_helper.from_array(data, tensor.name))
    return copy


def assert_pruning_is_exact(model: onnx.ModelProto, rng: np.random.Generator, ratio: float = 0.5) -> onnx.ModelProto:
    """Prunes, and compares with the zeroed original in ONNX Runtime; returns the pruned model."""
    pruned = onnx.ModelProto()
    pruned.CopyFrom(model)
    graph = ChannelGraph(pruned)
    original = onnx.ModelProto()
    original.CopyFrom(pruned)
    removed = choose(graph, magnitude_scores(graph), ratio)
    reference = zeroed(original, graph, removed)
    remove(graph, removed)
    onnx.checker.check_model(pruned, full_check=True)
    inputs = nets.random_inputs(model, rng)
    expected, got = nets.run_onnx(reference, inputs), nets.run_onnx(pruned, inputs)
    assert expected.keys() == got.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(got[name], array, rtol=1e-3, atol=1e-4)
    assert bool(removed) == (statistics(pruned).parameters < statistics(model).parameters)
    return pruned


@pytest.mark.parametrize("round_", range(25))
def test_random_nets(round_, rng):
    model = nets.random_net(rng, choices=nets.KEEP_ZERO)
    assert_pruning_is_exact(model, rng, float(rng.uniform(0.2, 0.8)))


def weight_shapes(model: onnx.ModelProto) -> list[tuple[int, ...]]:
    shapes = static_shapes(model)
    return [shapes[n.input[1]] for n in model.graph.node if n.op_type in ("Conv", "Gemm", "MatMul")]


def finish(net: Net, x: str) -> onnx.ModelProto:
    """A head whose outputs stay."""
    return net.model(net.gemm(net.op("Flatten", net.op("GlobalAveragePool", x)), 3))


def test_residual_add_ties_both_sides(rng):
    net = Net(rng)
    a = net.op("Relu", net.conv(net.input(1, 3, 6, 6), 16))
    b = net.batch_norm(net.conv(net.op("Relu", net.conv(a, 24)), 16))
    pruned = assert_pruning_is_exact(finish(net, net.op("Relu", net.op("Add", a, b))), rng)
    assert weight_shapes(pruned) == [(8, 3, 3, 3), (12, 8, 3, 3), (8, 12, 3, 3), (8, 3)]


def test_concat_and_depthwise_with_multiplier(rng):
    net = Net(rng)
    x = net.input(1, 3, 6, 6)
    joined = net.op("Concat", net.conv(x, 8), x, net.conv(x, 16), axis=1)
    model = finish(net, net.conv(net.op("Relu", net.depthwise(joined, multiplier=2)), 8, 1))
    pruned = assert_pruning_is_exact(model, rng)
    assert weight_shapes(pruned) == [(4, 3, 3, 3), (8, 3, 3, 3), (30, 1, 3, 3), (4, 30, 1, 1), (4, 3)]
    assert [attributes(n).get("group") for n in pruned.graph.node if n.op_type == "Conv"] == [1, 1, 15, 1]


def test_grouped_convolution_keeps_equal_groups(rng):
    net = Net(rng)
    x = net.op("Relu", net.conv(net.input(1, 3, 6, 6), 16))
    pruned = assert_pruning_is_exact(finish(net, net.op("Relu", net.conv(x, 32, groups=2))), rng)
    assert weight_shapes(pruned) == [(8, 3, 3, 3), (16, 4, 3, 3), (16, 3)]


def test_flatten_removes_every_position_of_a_channel(rng):
    net = Net(rng)
    x = net.op("Flatten", net.op("Relu", net.conv(net.input(1, 2, 5, 4), 8)))
    pruned = assert_pruning_is_exact(net.model(net.gemm(x, 3)), rng)
    assert weight_shapes(pruned) == [(4, 2, 3, 3), (80, 3)]


def test_nhwc_flatten_follows_the_transpose(rng):
    net = Net(rng)
    x = net.nhwc(net.conv(net.input(1, 2, 5, 4), 8))
    x = net.op("Reshape", x, net.constant([1, -1], np.int64))
    pruned = assert_pruning_is_exact(net.model(net.gemm(x, 3)), rng)
    assert weight_shapes(pruned) == [(4, 2, 3, 3), (80, 3)]


def test_gate_and_prelu(rng):
    net = Net(rng)
    x = net.op("PRelu", net.conv(net.input(1, 2, 5, 4), 16), net.random(16, 1, 1))
    pruned = assert_pruning_is_exact(finish(net, net.gate(x)), rng)
    assert weight_shapes(pruned) == [(8, 2, 3, 3), (4, 8, 1, 1), (8, 4, 1, 1), (8, 3)]


@pytest.mark.parametrize("opset", [11, 17])
def test_split_and_slice_move_with_the_channels(rng, opset):
    net = Net(rng, opset=opset)
    a, b = net.op("Split", net.conv(net.input(1, 2, 5, 4), 16), outputs=2, axis=1)
    starts, ends, axes = (net.constant(v, np.int64) for v in ([2], [7], [1]))
    b = net.op("Slice", b, starts, ends, axes)
    pruned = assert_pruning_is_exact(finish(net, net.op("Concat", b, net.op("Relu", a), axis=1)), rng)
    assert weight_shapes(pruned)[0] == (8, 2, 3, 3)


def test_split_never_loses_a_whole_part(rng):
    net = Net(rng)
    x = net.input(1, 2, 5, 4)
    w = rng.standard_normal((8, 2, 1, 1))
    w[:4] *= 1e-3
    split = net.op("Split", net.op("Conv", x, net.constant(w)), outputs=2, axis=1)
    y = net.op("GlobalAveragePool", net.op("Concat", *split, axis=1))
    model = net.model(net.op("Gemm", net.op("Flatten", y), net.constant(np.ones((8, 3)))))
    assert weight_shapes(assert_pruning_is_exact(model, rng))[0] == (5, 2, 1, 1)


def test_resize_by_sizes(rng):
    net = Net(rng)
    x = net.conv(net.input(1, 2, 4, 4), 8)
    x = net.op("Resize", x, "", "", net.constant([1, 8, 8, 8], np.int64), mode="nearest")
    assert weight_shapes(assert_pruning_is_exact(finish(net, x), rng))[0] == (4, 2, 3, 3)


def test_shared_weights_are_cut_for_each_reader(rng):
    net = Net(rng)
    x = net.conv(net.input(1, 3, 6, 6), 8, 1)
    w = net.random(8, 8, 1, 1)
    x = net.op("Relu", net.op("Conv", net.op("Relu", net.op("Conv", x, w)), w))
    assert weight_shapes(assert_pruning_is_exact(finish(net, x), rng))[1:3] == [(4, 4, 1, 1)] * 2


def test_constants_that_stay_equal_stay_shared(rng):
    net = Net(rng)
    zero, six = net.constant(0.0), net.constant(6.0)
    x = net.op("Clip", net.conv(net.input(1, 3, 6, 6), 8), zero, six)
    x = net.op("Clip", net.conv(x, 8), zero, six)
    pruned = assert_pruning_is_exact(finish(net, x), rng)
    assert len(pruned.graph.initializer) == len(net.constants)


def test_what_mixes_channels_stays(rng):
    net = Net(rng)
    x = net.shuffle(net.conv(net.input(1, 3, 6, 6), 8), 2)
    y = net.op("Softmax", net.conv(net.op("Relu", net.conv(x, 12)), 8), axis=1)
    pruned = assert_pruning_is_exact(finish(net, y), rng)
    assert weight_shapes(pruned) == [(8, 3, 3, 3), (8, 8, 3, 3), (8, 8, 3, 3), (8, 3)]


def test_inputs_and_outputs_keep_their_channels(rng):
    net = Net(rng)
    model = net.model(net.conv(net.op("Relu", net.conv(net.input(1, 6, 4, 4), 8)), 10))
    pruned = assert_pruning_is_exact(model, rng)
    assert weight_shapes(pruned) == [(4, 6, 3, 3), (10, 4, 3, 3)]


def test_a_model_without_free_channels_is_refused(rng):
    net = Net(rng)
    model = net.model(net.conv(net.input(1, 6, 4, 4), 8))
    with pytest.raises(ModelError, match="no channel can be removed"):
        prune_structured(model, 0.5)


@pytest.mark.parametrize(
    ("channels", "ratio", "count"),
    [(16, 0.5, 8), (64, 0.5, 32), (128, 0.3, 40), (64, 0.05, 8), (32, 0.1, 4), (24, 0.5, 12), (10, 0.5, 4), (12, 0.5, 4), (8, 0.9, 4),
     (64, 0.99, 56), (4, 0.5, 2), (3, 0.9, 2), (2, 0.1, 1), (1, 0.5, 0)],
)  # fmt: skip
def test_removal_count(channels, ratio, count):
    assert removal_count(channels, ratio) == count


def test_magnitude_sees_batch_norms(rng):
    """A channel with large weights and a batch norm near zero goes first."""
    net = Net(rng)
    x = net.conv(net.input(1, 2, 4, 4), 8, bias=False)
    gamma = np.array([1, 1, 1e-4, 1, 1e-4, 1e-4, 1, 1e-4])
    ones, zeros = np.ones(8), np.zeros(8)
    x = net.op("BatchNormalization", x, *(net.constant(v) for v in (gamma, zeros, zeros, ones)))
    w = net.constant(np.ones((4, 8, 1, 1)))
    pruned = prune_structured(finish(net, net.op("Conv", x, w)), 0.5)
    node = next(n for n in pruned.graph.node if n.op_type == "BatchNormalization")
    kept = next(numpy_helper.to_array(t) for t in pruned.graph.initializer if t.name == node.input[1])
    assert kept.tolist() == [1, 1, 1, 1]


def test_activation_sees_dead_channels(rng):
    """Channels whose Relu never opens go first, however large their weights."""
    net = Net(rng)
    x = net.input(1, 2, 4, 4)
    w, b = rng.standard_normal((8, 2, 1, 1)), np.ones(8)
    w[1::2] *= 10
    b[1::2] = -1e3
    x = net.op("Relu", net.op("Conv", x, net.constant(w), net.constant(b)))
    model = finish(net, net.conv(x, 4, 1))
    data = open_data(
        {"input0": rng.standard_normal((6, 2, 4, 4)).astype(np.float32)},
        [InputSpec("input0", (1, 2, 4, 4))],
        Preprocessing(),
    )
    pruned = prune_structured(model, 0.5, "activation", data)
    bias = next(t for t in pruned.graph.initializer if t.name == pruned.graph.node[0].input[2])
    assert numpy_helper.to_array(bias).tolist() == [1, 1, 1, 1]
    with pytest.raises(DataError, match="calibration data"):
        prune_structured(model, 0.5, "activation")


@pytest.mark.parametrize("ratio", [0.0, 1.0, -1.0, float("nan")])
def test_ratio_out_of_range(rng, ratio):
    net = Net(rng)
    with pytest.raises(InputError, match="between 0 and 1"):
        prune_structured(finish(net, net.conv(net.input(1, 2, 4, 4), 8)), ratio)


@pytest.mark.parametrize("name", ["fashion_dscnn", "ic01_resnet8", "kws01_dscnn", "vww01_mobilenetv1_025"])
def test_halving_the_reference_models(name, shared, tmp_path):
    model = load(shared / "models" / f"{name}.onnx").model
    pruned = assert_pruning_is_exact(model, np.random.default_rng(3))
    before, after = statistics(model), statistics(pruned)
    assert after.macs <= 0.35 * before.macs
    assert after.bytes < 0.5 * before.bytes
    onnx.save(pruned, tmp_path / "pruned.onnx")
    again = load(tmp_path / "pruned.onnx")
    assert [(p.name, p.shape) for p in again.graph.inputs + again.graph.outputs] == [
        (p.name, tuple(d.dim_value for d in p.type.tensor_type.shape.dim)) for p in (*model.graph.input, *model.graph.output)
    ]
