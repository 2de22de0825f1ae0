# SPDX-License-Identifier: Apache-2.0
"""Which values share a scale."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.program import Lut
from edgekit.quantize.groups import Groups
from tests.quantize.nets import Net, exact_input


def branch(net: Net, x: str, fn: str = "Relu") -> str:
    return net.node("Unary", [x], net.graph.values[x].shape, fn=fn, params={})


def concat(net: Net, *values: str) -> str:
    shape = net.graph.values[values[0]].shape
    return net.node("Concat", list(values), (*shape[:-1], shape[-1] * len(values)), axis=len(shape) - 1)


def tables_in_front(net: Net, rng: np.random.Generator) -> int:
    """How many inputs of Concats had to be rescaled."""
    program = net.quantize({"x": exact_input(rng, net.graph.inputs[0].shape)})
    return sum(isinstance(o, Lut) and o.outputs[0].endswith("_rescaled") for o in program.ops)


def test_moves_keep_the_scale() -> None:
    net = Net()
    x = net.input((1, 4, 4, 2))
    y = net.node("Reshape", [x], (1, 32))
    z = net.node("Slice", [y], (1, 16), starts=(0, 16), steps=(1, 1))
    other = branch(net, z)
    groups = Groups(net.graph)
    assert groups.members(x) == {x, y, z}
    assert groups.members(other) == {other}


def test_a_max_pool_with_an_activation_has_a_scale_of_its_own() -> None:
    net = Net()
    x = net.input((1, 4, 4, 2))
    y = net.node("MaxPool", [x], (1, 4, 4, 2), kernel=(1, 1), clip=(0.0, 6.0))
    assert Groups(net.graph).members(y) == {y}


def test_concat_inputs_that_nothing_else_reads_take_its_scale(rng: np.random.Generator) -> None:
    net = Net()
    x = net.input((1, 8))
    a, b = branch(net, x), branch(net, x, "Neg")
    y = concat(net, a, b)
    net.output(y)
    assert Groups(net.graph).members(y) == {a, b, y}
    assert tables_in_front(net, rng) == 0


@pytest.mark.parametrize("reader", ["node", "output", "behind a move"])
def test_other_readers_keep_their_precision(rng: np.random.Generator, reader: str) -> None:
    net = Net()
    x = net.input((1, 8))
    a, b = branch(net, x, "HardSwish"), branch(net, x, "Neg")
    if reader == "behind a move":
        net.output(branch(net, a), "extra")
        a = net.node("Reshape", [a], (1, 8))
    y = concat(net, a, b)
    net.output(y)
    if reader == "node":
        net.output(branch(net, a), "extra")
    elif reader == "output":
        net.output(a, "extra")
    assert Groups(net.graph).members(y) == {b, y}
    assert tables_in_front(net, rng) == 1


def test_chained_concats_join(rng: np.random.Generator) -> None:
    net = Net()
    x = net.input((1, 4))
    a, b = branch(net, x), branch(net, x, "Neg")
    first = concat(net, a, b)
    c = branch(net, net.node("Reshape", [x], (1, 4)), "HardSwish")
    wide = net.node("Pad", [c], (1, 8), before=(0, 0), after=(0, 4), value=0.0)
    y = concat(net, first, wide)
    net.output(y)
    assert Groups(net.graph).members(y) == {a, b, first, c, wide, y}


def test_known_ranges_are_not_widened(rng: np.random.Generator) -> None:
    net = Net()
    x = net.input((1, 8))
    a, b = branch(net, x, "Sigmoid"), branch(net, x)
    y = concat(net, a, b)
    net.output(y)
    assert Groups(net.graph).members(a) == {a}
    assert tables_in_front(net, rng) == 1


def test_one_value_twice_in_a_concat(rng: np.random.Generator) -> None:
    net = Net()
    a = branch(net, net.input((1, 4)))
    net.output(concat(net, a, a))
    assert tables_in_front(net, rng) == 0
