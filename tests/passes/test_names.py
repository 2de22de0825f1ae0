# SPDX-License-Identifier: Apache-2.0
"""Names of values behind the rewrites."""

from __future__ import annotations

import itertools

from edgekit.graph import Graph, Node, Port, Value
from edgekit.passes import names


def test_suffixes_go_and_everything_follows():
    graph = Graph("g", [Port("x", (1,), "x")], [Port("y", (1,), "y.moved")])
    graph.values = {
        "x": Value("x", (1,)),
        "a.moved.raised_2": Value("a.moved.raised_2", (1,), source="a", source_perm=(0,)),
        "b": Value("b", (1,)),
        "b.moved": Value("b.moved", (1,)),
        "c.image": Value("c.image", (1, 1), source="c"),
        "y.moved": Value("y.moved", (1,)),
    }
    chain = list(graph.values)
    graph.nodes = [Node("Unary", b, [a], [b], {"fn": "Relu"}) for a, b in itertools.pairwise(chain)]
    graph.batch_norm_stats = {"a.moved.raised_2": ("mean", "std")}
    names.run(graph)
    expected = ["x", "a", "b", "b_1", "c.view", "y.moved"]
    assert list(graph.values) == [v.name for v in graph.values.values()] == expected
    assert [n.inputs[0] for n in graph.nodes] == expected[:-1]
    assert [n.outputs[0] for n in graph.nodes] == expected[1:]
    assert graph.outputs[0].value == "y.moved", "ports keep their values"
    assert list(graph.batch_norm_stats) == ["a"]
