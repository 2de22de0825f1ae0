# SPDX-License-Identifier: Apache-2.0
"""Each quantized operator stays within one step of the float operator on in-range data.

Inputs and weights are exactly representable, so what is left is the operator's own arithmetic:
half a step of rounding where it rounds once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.passes.unary import FUNCTIONS
from tests.quantize.nets import Net, exact_bias, exact_input, exact_weights, steps_apart

HALF = 0.5 + 1e-3
"""One rounding; a little more for binary32 multipliers."""

WINDOW: dict[str, Any] = {"strides": (1, 1), "dilations": (1, 1), "pads": (0, 0, 0, 0)}
CLIPS = [None, (0.0, np.inf), (0.0, 6.0), (-3.0, 5.5)]


def clip_attr(clip: tuple[float, float] | None) -> dict[str, Any]:
    return {} if clip is None else {"clip": clip}


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("groups", [1, 2])
def test_conv(rng: np.random.Generator, groups: int, clip: tuple[float, float] | None) -> None:
    net = Net()
    x = net.input((2, 7, 6, 4))
    w = net.constant(exact_weights(rng, (6, 3, 2, 4 // groups)))
    attrs = {"strides": (2, 1), "dilations": (1, 2), "pads": (1, 0, 1, 2), "groups": groups}
    net.output(
        net.node("Conv", [x, w, net.constant(exact_bias(rng, 6))], (2, 4, 6, 6), **attrs, **clip_attr(clip))
    )
    assert steps_apart(net, {"x": exact_input(rng, (2, 7, 6, 4))}) <= HALF


@pytest.mark.parametrize("multiplier", [1, 3])
def test_depthwise_conv(rng: np.random.Generator, multiplier: int) -> None:
    net = Net()
    x = net.input((1, 6, 6, 4))
    outputs = 4 * multiplier
    w = net.constant(exact_weights(rng, (3, 3, outputs), axis=2))
    attrs = {**WINDOW, "pads": (1, 1, 1, 1), "clip": (0.0, np.inf)}
    net.output(
        net.node("DepthwiseConv", [x, w, net.constant(exact_bias(rng, outputs))], (1, 6, 6, outputs), **attrs)
    )
    assert steps_apart(net, {"x": exact_input(rng, (1, 6, 6, 4))}) <= HALF


@pytest.mark.parametrize("shape", [(1, 16), (2, 5, 16)])
def test_dense(rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    net = Net()
    x = net.input(shape)
    w, b = net.constant(exact_weights(rng, (9, 16))), net.constant(exact_bias(rng, 9))
    net.output(net.node("Dense", [x, w, b], (*shape[:-1], 9)))
    assert steps_apart(net, {"x": exact_input(rng, shape)}) <= HALF


def test_matmul_of_two_activations(rng: np.random.Generator) -> None:
    net = Net()
    a, b = net.input((2, 5, 8), "a"), net.input((2, 8, 7), "b")
    net.output(net.node("MatMul", [a, b], (2, 5, 7)))
    assert steps_apart(net, {"a": exact_input(rng, (2, 5, 8)), "b": exact_input(rng, (2, 8, 7))}) <= HALF


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul"])
def test_two_activations(rng: np.random.Generator, op: str, clip: tuple[float, float] | None) -> None:
    net = Net()
    a, b = net.input((1, 4, 4, 3), "a"), net.input((1, 1, 1, 3), "b")
    net.output(net.node(op, [a, b], (1, 4, 4, 3), **clip_attr(clip)))
    assert (
        steps_apart(net, {"a": exact_input(rng, (1, 4, 4, 3)), "b": exact_input(rng, (1, 1, 1, 3))}) <= HALF
    )


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul"])
@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 1, 1, 3), (1, 4, 1, 1), (1, 4, 4, 3)])
def test_a_constant_operand(rng: np.random.Generator, op: str, shape: tuple[int, ...], swapped: bool) -> None:
    net = Net()
    x = net.input((1, 4, 4, 3))
    q = np.asarray(rng.integers(1, 128, shape))
    q.flat[0] = (
        127  # the largest value fixes the constant's scale at 2^-4, or 2^-4 * 127 / 255 where one is 0
    )
    c = net.constant(q * 2.0**-4)
    operands = [c, x] if swapped else [x, c]
    net.output(net.node(op, operands, (1, 4, 4, 3)))
    # A tensor constant is itself rounded: half a step of its own scale, weighed by what it meets.
    assert steps_apart(net, {"x": exact_input(rng, (1, 4, 4, 3))}) <= (1.0 if op != "Mul" else 1.1)


def test_an_activation_combined_with_itself(rng: np.random.Generator) -> None:
    net = Net()
    x = net.input((1, 8))
    net.output(net.node("Mul", [x, x], (1, 8)), "square")
    net.output(net.node("Add", [x, x], (1, 8)), "twice")
    assert steps_apart(net, {"x": exact_input(rng, (1, 8))}) <= HALF


@pytest.mark.parametrize("include", [False, True])
def test_average_pool(rng: np.random.Generator, include: bool) -> None:
    net = Net()
    x = net.input((1, 7, 7, 3))
    attrs = {"strides": (2, 2), "dilations": (1, 1), "pads": (1, 1, 1, 1), "count_include_pad": include}
    net.output(net.node("AveragePool", [x], (1, 4, 4, 3), kernel=(3, 3), **attrs))
    assert steps_apart(net, {"x": exact_input(rng, (1, 7, 7, 3))}) <= HALF


@pytest.mark.parametrize("clip", CLIPS)
def test_max_pool(rng: np.random.Generator, clip: tuple[float, float] | None) -> None:
    net = Net()
    x = net.input((1, 6, 6, 3))
    attrs = {"strides": (2, 2), "dilations": (1, 1), "pads": (1, 1, 1, 1), **clip_attr(clip)}
    net.output(net.node("MaxPool", [x], (1, 4, 4, 3), kernel=(3, 3), **attrs))
    assert steps_apart(net, {"x": exact_input(rng, (1, 6, 6, 3))}) <= (0.0 if clip is None else HALF)


MONADIC = sorted(set(FUNCTIONS) - {"Sum", "Product", "Pow", "Log", "Reciprocal", "Sqrt"})
"""Functions of the whole line that need no parameter."""


@pytest.mark.parametrize("fn", MONADIC)
def test_unary(rng: np.random.Generator, fn: str) -> None:
    net = Net()
    x = net.input((1, 16, 16))
    net.output(net.node("Unary", [x], (1, 16, 16), fn=fn, params={}))
    data = exact_input(rng, (1, 16, 16))
    assert steps_apart(net, {"x": data}) <= HALF


def test_prelu(rng: np.random.Generator) -> None:
    net = Net()
    x = net.input((1, 5, 5, 4))
    net.output(net.node("PRelu", [x, net.constant([0.25, 0.0, -0.5, 1.5])], (1, 5, 5, 4)))
    assert steps_apart(net, {"x": exact_input(rng, (1, 5, 5, 4))}) <= HALF


@pytest.mark.parametrize("length", [2, 10, 1000])
def test_softmax(rng: np.random.Generator, length: int) -> None:
    net = Net()
    x = net.input((3, length))
    net.output(net.node("Softmax", [x], (3, length)))
    assert steps_apart(net, {"x": exact_input(rng, (3, length))}) <= HALF


def test_operators_that_move_values_are_exact(rng: np.random.Generator) -> None:
    net = Net()
    x = net.input((1, 4, 6, 3))
    y = net.node("Transpose", [x], (1, 3, 4, 6), perm=(0, 3, 1, 2))
    y = net.node("Slice", [y], (1, 3, 2, 6), starts=(0, 2, 0, 0), steps=(1, -1, 2, 1))
    y = net.node("Pad", [y], (1, 3, 4, 8), before=(0, 0, 1, 1), after=(0, 0, 1, 1), value=0.0)
    y = net.node("Reshape", [y], (1, 3, 32, 1))
    y = net.node("ResizeNearest", [y], (1, 2, 3, 1), rows=np.array([0, 2]), cols=np.array([1, 1, 31]))
    net.output(net.node("Reshape", [y], (6,)))
    assert steps_apart(net, {"x": exact_input(rng, (1, 4, 6, 3))}) == 0.0


def test_a_padding_value_outside_the_range_widens_it(rng: np.random.Generator) -> None:
    net = Net()
    x = net.input((1, 4))
    net.output(net.node("Pad", [x], (1, 6), before=(0, 1), after=(0, 1), value=-100.0))
    # The input is rounded to the wider scale.
    assert steps_apart(net, {"x": exact_input(rng, (1, 4))}) <= HALF


def test_concat_of_different_scales(rng: np.random.Generator) -> None:
    net = Net()
    x = net.input((1, 4, 4, 3))
    small = net.node("Unary", [x], (1, 4, 4, 3), fn="Sigmoid", params={})
    constant = net.constant(np.linspace(-1, 1, 16).reshape(1, 4, 4, 1))
    net.output(net.node("Concat", [x, small, constant], (1, 4, 4, 7), axis=3))
    # Sigmoid is rounded to 1/256 and again to the concatenation's scale.
    assert steps_apart(net, {"x": exact_input(rng, (1, 4, 4, 3))}) <= 0.6
