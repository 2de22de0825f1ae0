# SPDX-License-Identifier: Apache-2.0
"""The registry of functions of one variable."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from edgekit.graph import Node
from edgekit.passes import unary

ONNX_OPERATORS = [
    ("Abs", {}, {}), ("Atan", {}, {}), ("Ceil", {}, {}), ("Celu", {"alpha": 0.7}, {"alpha": 0.7}), ("Cos", {}, {}),
    ("Elu", {"alpha": 0.7}, {"alpha": 0.7}), ("Erf", {}, {}), ("Exp", {}, {}), ("Floor", {}, {}),
    ("Gelu", {"approximate": 0}, {"approximate": "none"}), ("Gelu", {"approximate": 1}, {"approximate": "tanh"}),
    ("HardSigmoid", {}, {}), ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}, {"alpha": 0.3, "beta": 0.4}), ("HardSwish", {}, {}),
    ("LeakyRelu", {}, {}), ("LeakyRelu", {"alpha": -0.3}, {"alpha": -0.3}), ("Mish", {}, {}), ("Neg", {}, {}),
    ("Reciprocal", {}, {}), ("Relu", {}, {}), ("Round", {}, {}), ("Selu", {}, {}), ("Sigmoid", {}, {}),
    ("Sign", {}, {}), ("Sin", {}, {}), ("Softplus", {}, {}), ("Softsign", {}, {}), ("Tanh", {}, {}),
    ("ThresholdedRelu", {}, {}),
]  # fmt: skip

COMPOSITES = {
    "Product": {"left": (("Affine", {"add": 1.0}),), "right": (("Tanh", {}),)},
    "Sum": {"left": (("Abs", {}),), "right": (("Sin", {}),)},
}


def onnx_result(op: str, attributes: dict, x: np.ndarray) -> np.ndarray:
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(x.shape)) for n in ("x", "y")]
    graph = helper.make_graph([helper.make_node(op, ["x"], ["y"], **attributes)], "g", info[:1], info[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    onnx.checker.check_model(model)
    return ReferenceEvaluator(model).run(None, {"x": x})[0]


@pytest.mark.parametrize(("fn", "params", "attributes"), ONNX_OPERATORS)
def test_equals_the_onnx_operator(fn, params, attributes):
    x = np.concatenate([np.linspace(-9, 9, 181), [-2.5, -1.5, -0.5, 0.5, 1.5]]).astype(np.float32)
    x = x[x != 0] if fn == "Reciprocal" else x
    expected = onnx_result(fn, attributes, x)
    np.testing.assert_allclose(unary.run(((fn, params),), x), expected, rtol=2e-5, atol=2e-6)


def all_steps():
    for name, function in unary.FUNCTIONS.items():
        params = {k: 1.7 if v is None else v for k, v in function.defaults.items()} | COMPOSITES.get(name, {})
        yield name, params
    yield "Affine", {"mul": -2.0, "add": 1.0}
    yield "Clip", {"lo": -1.0, "hi": 0.5}
    yield "Gelu", {"approximate": 1}
    yield "LeakyRelu", {"alpha": -0.5}
    yield "Pow", {"exponent": 2.0}
    yield "Pow", {"exponent": -1.0}
    yield "Swish", {"alpha": 1.702}


@pytest.mark.parametrize("step", list(all_steps()), ids=lambda s: s[0])
def test_output_range_holds_every_value_and_is_tight(step):
    rng = np.random.default_rng(7)
    for _ in range(40):
        lo, hi = np.sort(rng.uniform(-6, 6, 2))
        y = unary.run((step,), np.linspace(lo, hi, 20001))
        y = y[~np.isnan(y)]
        low, high = unary.output_range((step,), lo, hi)
        if not y.size:
            assert (low, high) == (-math.inf, math.inf)
            continue
        slack = 1e-4 * (y.max() - y.min()) + 1e-12 if unary.FUNCTIONS[step[0]].sampled else 1e-12
        assert low <= y.min() + slack and y.max() <= high + slack
        if step != ("Pow", {"exponent": -1.0}) and step[0] not in ("Reciprocal", "Log"):  # steep near the pole
            assert y.max() - y.min() >= 0.95 * (high - low) - 1e-9


@pytest.mark.parametrize(
    ("fn", "bounds"),
    [
        ("Relu", (0, math.inf)), ("Sigmoid", (0, 1)), ("Tanh", (-1, 1)), ("Erf", (-1, 1)), ("Softsign", (-1, 1)),
        ("HardSigmoid", (0, 1)), ("HardSwish", (-0.375, math.inf)), ("Swish", (-0.2784645427610738, math.inf)),
        ("Gelu", (-0.16997120747990369, math.inf)), ("Mish", (-0.30884341301725053, math.inf)), ("Exp", (0, math.inf)),
        ("Softplus", (0, math.inf)), ("Abs", (0, math.inf)), ("Sin", (-1, 1)), ("Affine", (-math.inf, math.inf)),
    ],
)  # fmt: skip
def test_range_over_all_reals(fn, bounds):
    low, high = unary.output_range(((fn, {}),))
    assert low == pytest.approx(bounds[0], abs=1e-3 if fn == "Sin" else 1e-12)
    assert high == pytest.approx(bounds[1], abs=1e-3 if fn == "Sin" else 1e-12)


def test_chain_applies_its_steps_in_order():
    steps = (("Affine", {"mul": 2.0, "add": 1.0}), ("Relu", {}), ("Affine", {"mul": -1.0}))
    node = Node("Unary", "n", ["x"], ["y"], unary.attributes(steps))
    assert unary.chain(node) == steps
    assert unary.apply(node, np.array([-3.0, 2.0])).tolist() == [0.0, -5.0]
    assert unary.output_range(steps, -3, 2) == (-5.0, 0.0)
    assert unary.describe(node) == "Affine, Relu, Affine"


def test_single_step_keeps_the_plain_spelling():
    attributes = unary.attributes((("Clip", {"lo": 0.0, "hi": 6.0}),))
    assert attributes == {"fn": "Clip", "params": {"lo": 0.0, "hi": 6.0}}
    assert unary.chain(Node("Unary", "n", ["x"], ["y"], attributes)) == (("Clip", {"lo": 0.0, "hi": 6.0}),)


def test_outside_the_domain_is_silent():
    with np.errstate(all="raise"):
        y = unary.run((("Log", {}),), np.array([-1.0, 0.0, 1.0]))
    assert np.isnan(y[0]) and y[1] == -np.inf and y[2] == 0
