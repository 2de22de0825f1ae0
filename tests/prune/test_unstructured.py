# SPDX-License-Identifier: Apache-2.0
"""Zeroing weights, and counting what a model costs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgekit.errors import InputError, ModelError
from edgekit.prune import prune_sparsity, statistics
from edgekit.prune.magnitude import effective_weights
from edgekit.prune.unstructured import lamp_scores
from tests.passes import nets
from tests.passes.nets import Net


def weights_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    return {n.input[1]: constants[n.input[1]] for n in model.graph.node if n.op_type in ("Conv", "Gemm", "MatMul")}


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.8, 0.95])
def test_total_share_of_zeros(ratio, rng):
    model = nets.random_net(rng)
    before, after = weights_of(model), weights_of(prune_sparsity(model, ratio))
    total = sum(w.size for w in before.values())
    zeros = round(ratio * total)
    assert sum(np.count_nonzero(w == 0) for w in after.values()) == zeros
    for name, w in after.items():
        assert w.any() or total - zeros < len(after), "every layer keeps its largest weight, if so many are left"
        np.testing.assert_array_equal(w[w != 0], before[name][w != 0])
    for a, b in zip(model.graph.initializer, prune_sparsity(model, ratio).graph.initializer, strict=True):
        assert a.name == b.name and (a.name in before or a == b), "nothing but weights changes"


def test_the_smallest_weights_of_a_layer_go(rng):
    net = Net(rng)
    model = net.model(net.gemm(net.input(1, 40), 30))
    (before,), (after,) = (list(weights_of(m).values()) for m in (model, prune_sparsity(model, 0.8)))
    assert np.abs(before[after == 0]).max() <= np.abs(before[after != 0]).min()


def test_small_layers_keep_more(rng):
    net = Net(rng)
    model = net.model(net.gemm(net.op("Relu", net.gemm(net.op("Relu", net.gemm(net.input(1, 4), 64)), 64)), 3))
    shares = [np.mean(w != 0) for w in weights_of(prune_sparsity(model, 0.8)).values()]
    assert shares[0] > 2 * shares[1] and shares[2] > 2 * shares[1]


def test_lamp_score_is_its_definition(rng):
    w = rng.standard_normal((5, 4))
    flat = w.reshape(-1)
    expected = [v**2 / np.square(flat[np.abs(flat) >= abs(v)]).sum() for v in flat]
    np.testing.assert_allclose(lamp_scores(w), expected)
    assert lamp_scores(np.zeros(3)).tolist() == [0, 0, 0]


def test_effective_weights_see_what_scales_them(rng):
    net = Net(rng)
    x = net.input(1, 2, 4, 4)
    w = net.random(3, 2, 1, 1)
    factor = np.array([2.0, -3.0, 0.5]).reshape(1, 3, 1, 1)
    y = net.op("Mul", net.constant(factor), net.op("Conv", x, w))
    model = net.model(net.op("Add", y, net.random(3, 1, 1)))
    raw = weights_of(model)[w]
    np.testing.assert_allclose(effective_weights(model)[w], raw * np.abs(factor.reshape(3, 1, 1, 1)))


@pytest.mark.parametrize("ratio", [0.0, 1.0, float("nan")])
def test_ratio_out_of_range(rng, ratio):
    with pytest.raises(InputError, match="between 0 and 1"):
        prune_sparsity(nets.random_net(rng), ratio)


def test_a_model_without_weights_is_refused(rng):
    net = Net(rng)
    with pytest.raises(ModelError, match="no convolution or dense weights"):
        prune_sparsity(net.model(net.op("Relu", net.input(1, 4))), 0.5)


def test_statistics(rng):
    net = Net(rng)
    x = net.conv(net.input(1, 4, 6, 6), 8, stride=2, groups=2)
    model = net.model(net.gemm(net.op("Flatten", x), 5))
    counted = statistics(model)
    assert counted.parameters == 8 * 2 * 9 + 8 + 72 * 5 + 5
    assert counted.macs == 8 * 3 * 3 * 2 * 9 + 72 * 5
    assert counted.bytes == len(model.SerializeToString())
    assert counted.nonzero_parameters == counted.parameters
    assert counted.as_dict()["macs"] == counted.macs
