# SPDX-License-Identifier: Apache-2.0
"""Scales, weights and the proof that accumulators cannot overflow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pytest

from edgekit.calibrate import Calibration
from edgekit.errors import ModelError
from edgekit.format.schema import SCALE_MAX, SCALE_MIN
from edgekit.graph import Node
from edgekit.parallel import ahead
from edgekit.program import Accumulate, Program, Quant, multiplier
from edgekit.quantize import Options, quantize, scales
from edgekit.quantize.lowering import Lowering
from edgekit.quantize.lowerings import accumulate
from edgekit.quantize.rounding import OutputRounding, _covariance, nearest, remembered
from edgekit.quantize.weights import QuantizedWeights, quantize_weights
from tests.quantize.nets import Net, exact_input

X, Y = Quant(np.float32(0.05), -17), Quant(np.float32(0.1), 3)


def check_bounds(q: QuantizedWeights, x: Quant = X, y: Quant = Y) -> None:
    """Every promise of the contract, from the integers that end up in the file."""
    w, bias = q.weights.astype(np.int64), q.bias.astype(np.int64)
    assert np.abs(w).max(initial=0) <= 127
    assert np.abs(bias).max() <= 2**30
    # The largest sum is reached where each input takes the end of its range that the weight's sign asks for.
    ends = np.array([-128, 127]) - x.zero_point
    largest = np.maximum(w * ends[0], w * ends[1]).sum(1) + bias
    smallest = np.minimum(w * ends[0], w * ends[1]).sum(1) + bias
    assert largest.max() < 2**31
    assert smallest.min() >= -(2**31)
    m = np.float32(x.scale) * q.scale / np.float32(y.scale)
    assert q.scale.dtype == np.float32
    for array in (q.scale, m):
        assert np.all((array >= SCALE_MIN) & (array <= SCALE_MAX))


def test_plain_weights(rng: np.random.Generator) -> None:
    w, b = rng.standard_normal((8, 50)), rng.standard_normal(8)
    q = quantize_weights("n", w, b, X, Y)
    check_bounds(q)
    np.testing.assert_array_equal(np.abs(q.weights).max(1), 127)
    scale = q.scale.astype(np.float64)
    assert np.all(np.abs(q.weights * scale[:, None] - w) <= scale[:, None] * (0.5 + 1e-6))
    assert np.all(np.abs(q.bias * scale * float(X.scale) - b) <= scale * float(X.scale) * (0.5 + 1e-6))


@pytest.mark.parametrize("magnitude", [1e-38, 5.7e-31, 1e-20, 1e-4, 1.0, 1e6])
@pytest.mark.parametrize("bias", [0.0, 1e-9, 1.0, 1e7])
@pytest.mark.parametrize("sx", [1e-28, 1e-6, 1.0, 1e12])
def test_extreme_weights(rng: np.random.Generator, magnitude: float, bias: float, sx: float) -> None:
    x = Quant(np.float32(sx), 127)
    w = rng.standard_normal((4, 30)) * magnitude
    b = np.array([bias, -bias, bias / 3, 0.0])
    # The smallest scales that can hold the bias and the weights; beyond the permitted ones the model is refused.
    needed = max(bias / (sx * 2**30), np.abs(w).max() / 127)
    if needed > SCALE_MAX or sx * needed > SCALE_MAX:
        with pytest.raises(ModelError, match="too large"):
            quantize_weights("n", w, b, x, Y)
    else:
        check_bounds(quantize_weights("n", w, b, x, Y), x)


def test_a_dead_channel_beside_live_ones() -> None:
    w = np.concatenate([np.ones((3, 9)), np.full((1, 9), 5.7e-31)])
    q = quantize_weights("n", w, np.array([0.0, 0.0, 0.0, 0.7]), X, Y)
    check_bounds(q)
    assert not q.weights[3].any()
    assert q.bias[3] * float(q.scale[3]) * float(X.scale) == pytest.approx(0.7, rel=1e-6)


def test_an_all_zero_channel_takes_the_median() -> None:
    w = np.diag([1.0, 2.0, 4.0, 0.0])
    q = quantize_weights("n", w, np.zeros(4), X, Y)
    assert q.scale[3] == pytest.approx(2.0 / 127)


def test_a_layer_of_zeros_keeps_its_bias() -> None:
    b = np.array([0.3, -1.7])
    q = quantize_weights("n", np.zeros((2, 5)), b, X, Y)
    check_bounds(q)
    np.testing.assert_allclose(
        q.bias * q.scale.astype(np.float64) * float(X.scale), b, atol=float(Y.scale) / 256
    )


def test_wide_layers_raise_their_scale() -> None:
    """70,000 inputs at full weight would overflow: 127 * 255 * 70,000 > 2^31."""
    w = np.ones((2, 70_000))
    w[1, 1:] = 1e-6
    x = Quant(np.float32(1.0), -128)
    q = quantize_weights("n", w, np.zeros(2), x, Y)
    check_bounds(q, x)
    assert q.scale[0] > 1 / 127 * 1.01
    assert np.float32(1 / 127) <= q.scale[1] <= np.float32(1 / 127) * 1.0001
    assert q.reach[0] > 2**31 * 0.9  # raised no further than needed


def test_the_limit_is_reached_by_real_inputs() -> None:
    """The proven bound is exact: some input produces it."""
    w = np.array([[1.0, -1.0, 0.5]])
    q = quantize_weights("n", w, np.array([1.0]), X, Y)
    x = np.where(q.weights[0] > 0, 127, -128) - X.zero_point
    assert X.zero_point < 0
    x = np.array([127 - X.zero_point, 127 - X.zero_point, 127 - X.zero_point]) * np.sign(q.weights[0])
    assert int((q.weights[0] * x).sum() + q.bias[0]) == int(q.reach[0])


def test_impossible_weights_are_refused() -> None:
    with pytest.raises(ModelError, match="node 'n'"):
        quantize_weights("n", np.full((1, 2), 1e30), np.zeros(1), Quant(np.float32(2.0**60), 0), Y)


# ---- Scales ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lo", "hi", "zero"),
    [(0.0, 6.0, -128), (-1.0, 1.0, 0), (-3.0, 0.0, 127), (2.0, 5.0, -128), (-5.0, -2.0, 127)],
)
def test_ranges_hold_zero_exactly(lo: float, hi: float, zero: int) -> None:
    q = scales.quant_from_range(lo, hi)
    assert q.zero_point == pytest.approx(zero, abs=1)
    assert scales.quantize(np.zeros(1), q)[0] == q.zero_point
    span = max(hi, 0.0) - min(lo, 0.0)
    assert float(q.scale) * 255 == pytest.approx(span, rel=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0, 7.0, -7.0, -0.01])
def test_constant_tensors(value: float) -> None:
    q = scales.quant_from_range(value, value)
    assert q == Quant(np.float32(max(abs(value), 1.0) / 127), 0)
    assert scales.dequantize(scales.quantize(np.array([value]), q), q)[0] == pytest.approx(
        value, abs=0.5 / 127
    )


def test_clamp_bounds_are_those_of_the_contract() -> None:
    q = Quant(np.float32(0.1), -10)
    assert scales.clamp_bounds((0.0, 6.0), q) == (-10, 50)
    assert scales.clamp_bounds((-np.inf, np.inf), q) == (-128, 127)
    assert scales.clamp_bounds((0.05, 1.0), Quant(np.float32(0.1), 1)) == (
        1,
        11,
    )  # the tie rounds to even, then adds


def test_raising_never_lowers(rng: np.random.Generator) -> None:
    for _ in range(1000):
        q = Quant(np.float32(10.0 ** rng.uniform(-20, 10)), 5)
        factor = 1 + 10.0 ** rng.uniform(-8, 2)
        assert float(scales.raised(q, factor).scale) >= float(q.scale) * factor


# ---- Whole programs ----------------------------------------------------------------------------


def accumulators(program: Program) -> list[Accumulate]:
    return [o for o in program.ops if isinstance(o, Accumulate)]


def dense_net(rng: np.random.Generator, weight: float, bias: float) -> Net:
    net = Net()
    x = net.input((1, 8))
    w, b = net.constant(rng.standard_normal((4, 8)) * weight), net.constant(np.full(4, bias))
    net.output(net.node("Dense", [x, w, b], (1, 4)))
    return net


def test_a_calibrated_range_that_is_far_too_small_is_raised(rng: np.random.Generator) -> None:
    net = dense_net(rng, 1.0, 1.0)
    y = net.graph.nodes[0].outputs[0]
    program = quantize(net.graph, Calibration({**net.ranges, y: (0.0, 1e-12)}))
    (op,) = accumulators(program)
    weights = program.tensors[op.inputs[1]].data.astype(np.int64)
    distance = scales.distance(program.tensors[op.inputs[0]].quant)
    reach = np.abs(weights).sum(1) * distance + np.abs(op.bias.astype(np.int64))
    assert (reach * multiplier(program, op).astype(np.float64)).max() < 2**30
    assert program.tensors[op.outputs[0]].quant.scale > 1e-12 / 255


@pytest.mark.parametrize("span", [1e-37, 1e-20, 1e-3, 1e3, 1e18])
@pytest.mark.parametrize("op", ["Add", "Mul"])
def test_multipliers_stay_in_their_range(span: float, op: str) -> None:
    net = Net()
    a, b = net.input((1, 4), "a"), net.input((1, 4), "b")
    y = net.node(op, [a, b], (1, 4))
    net.output(y)
    net.ranges["b"] = (0.0, span)
    program = quantize(net.graph, Calibration({**net.ranges, y: (-1.0, 1.0)}))
    qa, qb = (program.tensors[f"{n}_quantized"].quant for n in "ab")
    sa, sb, da, db = float(qa.scale), float(qb.scale), scales.distance(qa), scales.distance(qb)
    sy = float(program.tensors[y].quant.scale)
    multipliers = [(sa * sb / sy, da * db)] if op == "Mul" else [(sa / sy, da), (sb / sy, db)]
    for m, reach in multipliers:
        assert SCALE_MIN <= m <= SCALE_MAX
        assert m * reach < 2**30


def test_matmul_too_deep_is_refused() -> None:
    net = Net()
    a, b = net.input((1, 100_000), "a"), net.input((100_000, 1), "b")
    y = net.node("MatMul", [a, b], (1, 1))
    net.output(y)
    with pytest.raises(ModelError, match="can overflow 32-bit accumulators"):
        quantize(net.graph, Calibration({**net.ranges, y: (-1.0, 1.0)}))


# ---- Rounding ----------------------------------------------------------------------------------


def observed(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """int8[G, R, K] inputs that share much of what they are."""
    groups, rows, _ = shape
    common = rng.standard_normal((groups, rows, 1))
    return np.clip(np.rint(30 * (common + 0.2 * rng.standard_normal(shape))), -128, 127).astype(np.int8)


@pytest.mark.parametrize("k", [20, 70, 150])
def test_output_rounding_beats_nearest_on_correlated_inputs(rng: np.random.Generator, k: int) -> None:
    inputs = observed(rng, 1, 400, k)
    w = rng.standard_normal((6, k))
    scale = np.abs(w).max(1, keepdims=True) / 127
    errors = []
    for rounding in (nearest, OutputRounding(inputs)):
        q = rounding(w, scale)
        np.testing.assert_array_equal(q, np.rint(q))
        assert np.abs(q).max() <= 127
        outputs = inputs[0].astype(np.float64) @ (q * scale - w).T
        errors.append(outputs.var(axis=0).sum())
    assert errors[1] < errors[0]


def test_each_weight_is_the_best_that_those_before_leave(rng: np.random.Generator) -> None:
    """Against the definition: the weights that follow are free, and each in turn is rounded at the joint optimum."""
    k = 70
    inputs = observed(rng, 1, 500, k)
    w = rng.standard_normal((3, k))
    scale = np.abs(w).max(1, keepdims=True) / 127
    q = OutputRounding(inputs)(w, scale)
    h = np.cov(inputs[0].astype(np.float64), rowvar=False, bias=True)
    variance = h.diagonal().copy()
    h[np.arange(k), np.arange(k)] += 0.01 * variance.mean()
    order = np.argsort(-variance, kind="stable")
    for i in range(k):
        done, free = order[:i], order[i:]
        errors = (w - q * scale)[:, done]
        ideal = w[:, free] + np.linalg.solve(h[np.ix_(free, free)], h[np.ix_(free, done)] @ errors.T).T
        steps = np.clip(ideal[:, 0] / scale[:, 0], -127, 127)
        assert np.all(np.abs(q[:, order[i]] - steps) <= 0.5 + 1e-6)


def test_the_covariance_is_exact(rng: np.random.Generator) -> None:
    inputs = rng.integers(-128, 128, (2, 2500, 5), dtype=np.int8)
    inputs[:, :, 1] = -128
    wide = inputs.astype(object)
    for g in range(2):
        sums = wide[g].sum(axis=0)
        exact = (2500 * wide[g].T @ wide[g] - np.outer(sums, sums)).astype(np.float64) / 2500**2
        np.testing.assert_array_equal(_covariance(inputs)[g], exact)


def test_a_layer_is_rounded_once_for_a_scale(rng: np.random.Generator) -> None:
    scales_seen: list[np.ndarray] = []

    def count(w: np.ndarray, scale: np.ndarray) -> np.ndarray:
        scales_seen.append(scale)
        return nearest(w, scale)

    rounding, w, scale = remembered(count), rng.standard_normal((4, 9)), np.full((4, 1), 0.01)
    np.testing.assert_array_equal(rounding(w, scale), rounding(w, scale.copy()))
    np.testing.assert_array_equal(rounding(w, 2 * scale), nearest(w, 2 * scale))
    assert len(scales_seen) == 2


def test_output_rounding_keeps_zeros(rng: np.random.Generator) -> None:
    inputs = observed(rng, 1, 300, 90)
    w = rng.standard_normal((5, 90)) * (rng.random((5, 90)) < 0.2)
    q = OutputRounding(inputs)(w, np.full((5, 1), 0.02))
    assert not q[w == 0].any()
    assert (q != nearest(w, 0.02)).any()


def test_output_rounding_of_groups_is_that_of_each(rng: np.random.Generator) -> None:
    inputs = observed(rng, 3, 200, 9)
    w = rng.standard_normal((6, 9))
    scale = np.abs(w).max(1, keepdims=True) / 127
    together = OutputRounding(inputs)(w, scale)
    for g in range(3):
        alone = OutputRounding(inputs[g : g + 1])(w[2 * g : 2 * g + 2], scale[2 * g : 2 * g + 2])
        np.testing.assert_array_equal(together[2 * g : 2 * g + 2], alone)


def test_inputs_that_never_vary_round_to_nearest(rng: np.random.Generator) -> None:
    w = rng.standard_normal((4, 9))
    scale = np.abs(w).max(1, keepdims=True) / 127
    np.testing.assert_array_equal(OutputRounding(np.full((1, 50, 9), 77, np.int8))(w, scale), nearest(w, scale))


def test_bias_correction_removes_the_mean_error(rng: np.random.Generator) -> None:
    net = dense_net(rng, 1.0, 0.0)
    rows = np.concatenate([exact_input(rng, (1, 8)) + 3.0 for _ in range(300)])
    y = net.graph.nodes[0].outputs[0]
    calibration = Calibration({**net.ranges, y: (-300.0, 300.0)}, {y: rows})
    w = net.graph.values[net.graph.nodes[0].inputs[1]].data.astype(np.float64)
    (op,) = accumulators(program := quantize(net.graph, calibration))
    x = program.tensors[op.inputs[0]].quant
    seen = scales.dequantize(scales.quantize(rows, x), x)
    q = program.tensors[op.inputs[1]].data * op.weight_scale.astype(np.float64)[:, None]
    bias = op.bias * op.weight_scale.astype(np.float64) * float(x.scale)
    error = (seen @ q.T + bias - rows @ w.T).mean(axis=0)
    assert np.all(np.abs(error) <= op.weight_scale * float(x.scale))


# ---- Layers ahead of the walk ------------------------------------------------------------------


def layers_net(rng: np.random.Generator, depths: list[int]) -> Net:
    """Dense layers one after the other, of so many inputs each."""
    net = Net()
    value = net.input((1, depths[0]))
    for inputs, outputs in pairwise([*depths, 4]):
        w, b = net.constant(rng.standard_normal((outputs, inputs))), net.constant(np.zeros(outputs))
        value = net.node("Dense", [value, w, b], (1, outputs))
        net.ranges[value] = (-9.0, 9.0)
    net.output(value)
    return net


def lowering(net: Net) -> Lowering:
    return Lowering(net.graph, net.ranges, {}, Options())


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Quant, Quant]]:
    """The layers that are quantized from now on, in their order: output value, quantization of input and output."""
    found: list[tuple[str, Quant, Quant]] = []
    quantized = accumulate._quantized

    def count(low: Lowering, node: Node, w: np.ndarray, b: np.ndarray) -> QuantizedWeights:
        found.append((node.outputs[0], low.quant(node.inputs[0]), low.quant(node.outputs[0])))
        return quantized(low, node, w, b)

    monkeypatch.setattr(accumulate, "_quantized", count)
    return found


def test_a_layer_is_quantized_once_for_its_scales(
    rng: np.random.Generator, computed: list[tuple[str, Quant, Quant]]
) -> None:
    """Ahead of the walk or, where scales grew in between, within it; either way the next walk finds it."""
    net = layers_net(rng, [8, 6, 5])
    first = net.graph.nodes[0]
    low = lowering(net)
    accumulate.quantize_layers(low)
    assert len(computed) == 3
    before = accumulate.quantize_layer(low, first)
    low.raise_scale(first.outputs[0], 3.0)
    after = accumulate.quantize_layer(low, first)
    assert len(computed) == 4
    assert low.layers[first.outputs[0]] == ((low.quant("x"), low.quant(first.outputs[0])), after)
    assert after is not before
    accumulate.quantize_layers(low)  # only the layer behind it, which reads another scale now
    assert [name for name, *_ in computed[4:]] == [net.graph.nodes[1].outputs[0]]
    assert len(low.layers) == 3


def test_no_layer_is_quantized_twice_until_scales_are_consistent(
    rng: np.random.Generator, computed: list[tuple[str, Quant, Quant]]
) -> None:
    net = layers_net(rng, [8, 6, 5])
    net.ranges.update({n.outputs[0]: (0.0, 1e-12) for n in net.graph.nodes})
    lowering(net).run()
    assert len(computed) > 3
    assert len(computed) == len(set(computed))


@pytest.mark.parametrize("op", ["Conv", "DepthwiseConv", "Dense"])
def test_a_matrix_has_a_row_per_output_channel(rng: np.random.Generator, op: str) -> None:
    shape = {"Conv": (6, 3, 2, 4), "DepthwiseConv": (3, 2, 6), "Dense": (6, 24)}[op]
    w = rng.standard_normal(shape).astype(np.float32)
    net = Net()
    x = net.input((1, 5, 5, 4))
    y = net.node(op, [x, net.constant(w)], (1, 5, 5, 6))
    matrix, bias = accumulate._matrix(
        Lowering(net.graph, {**net.ranges, y: (-1.0, 1.0)}, {}, Options()), net.graph.nodes[0]
    )
    assert matrix.dtype == bias.dtype == np.float64
    assert not bias.any() and len(bias) == 6
    for channel in range(6):
        expected = w[..., channel] if op == "DepthwiseConv" else w[channel]
        np.testing.assert_array_equal(matrix[channel], expected.reshape(-1))


def test_large_layers_are_quantized_alone(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = layers_net(rng, [8, 30, 20, 6])
    sizes = {n.outputs[0]: 8 * i * o for n, (i, o) in zip(net.graph.nodes, pairwise([8, 30, 20, 6, 4]), strict=True)}
    limit = sorted(sizes.values())[2]
    seen: dict[int, list[int]] = {}

    def watched(function: Callable[[Node], object], nodes: list[Node], at_once: int) -> Iterator[tuple[Node, object]]:
        seen[at_once] = [sizes[n.outputs[0]] for n in nodes]
        return ahead(function, nodes, at_once)

    monkeypatch.setattr(accumulate, "ahead", watched)
    monkeypatch.setattr(accumulate, "processors", lambda: 3)
    monkeypatch.setattr(accumulate, "LARGE_BYTES", limit)
    low = lowering(net)
    accumulate.quantize_layers(low)
    assert seen == {3: [s for s in sizes.values() if s <= limit], 1: [s for s in sizes.values() if s > limit]}
    assert len(seen[1]) == 1 and len(low.layers) == 4
