# SPDX-License-Identifier: Apache-2.0
"""Attention as exporters write it becomes few operators; values are compared with ONNX Runtime each time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekit.graph import Graph
from edgekit.importer import load
from edgekit.passes import evaluate, optimize
from tests.passes import nets
from tests.passes.nets import Net

TOKENS, HEADS, DEPTH = 5, 3, 4
WIDTH = HEADS * DEPTH


@pytest.fixture
def net(rng: np.random.Generator) -> Net:
    return Net(rng)


@pytest.fixture
def optimized(tmp_path: Path, rng: np.random.Generator) -> Callable[..., Graph]:
    """Net and output names -> the optimized graph, after all its values that have a source have been checked."""

    def build(net: Net, *outputs: str) -> Graph:
        path = tmp_path / "net.onnx"
        onnx.save(net.model(*outputs), path)
        imported = load(path)
        inputs = nets.random_inputs(imported.model, rng)
        expected = nets.run_onnx(nets.tapped(imported.model), inputs)
        optimize(imported.graph)
        got = evaluate.evaluate(imported.graph, inputs)
        for value in imported.graph.activations():
            if value.source in expected:
                array = expected[value.source]
                array = array if value.source_perm is None else array.transpose(value.source_perm)
                np.testing.assert_allclose(got[value.name], array.reshape(value.shape), rtol=1e-3, atol=1e-4)
        return imported.graph

    return build


def ops(graph: Graph) -> dict[str, int]:
    return dict(Counter(n.op for n in graph.nodes if n.op not in ("Transpose", "Reshape")))


def linear(net: Net, x: str, out: int) -> str:
    product = net.op("MatMul", x, net.random(net.shapes[x][-1], out, scale=0.3))
    return net.op("Add", product, net.random(out, scale=0.3))


def split(net: Net, x: str) -> list[str]:
    """q, k, v by Split, each [1, heads, tokens, depth]."""
    parts = net.op("Split", x, outputs=3, axis=-1)
    shape = net.constant([1, TOKENS, HEADS, DEPTH], np.int64)
    return [net.op("Transpose", net.op("Reshape", part, shape), perm=[0, 2, 1, 3]) for part in parts]


def gather(net: Net, x: str) -> list[str]:
    """The same by one Transpose and three Gathers."""
    x = net.op("Reshape", x, net.constant([1, TOKENS, 3, HEADS, DEPTH], np.int64))
    x = net.op("Transpose", x, perm=[2, 0, 3, 1, 4])
    return [net.op("Gather", x, net.constant(i, np.int64), axis=0) for i in range(3)]


@pytest.mark.parametrize("parts", [split, gather])
@pytest.mark.parametrize("scaled", ["queries", "scores", "divided", "both"])
def test_attention(net: Net, optimized: Callable[..., Graph], parts: Callable[[Net, str], list[str]], scaled: str) -> None:
    x = linear(net, net.input(1, TOKENS, WIDTH), WIDTH)
    q, k, v = parts(net, linear(net, x, 3 * WIDTH))
    if scaled in ("queries", "both"):
        q = net.op("Mul", q, net.constant(0.5))
    k = net.op("Transpose", k, perm=[0, 1, 3, 2])
    scores = net.op("MatMul", q, net.op("Mul", k, net.constant(0.7)) if scaled == "both" else k)
    if scaled == "scores":
        scores = net.op("Add", net.op("Mul", scores, net.constant(0.5)), net.constant(1.0))
    elif scaled == "divided":
        scores = net.op("Div", scores, net.constant(2.0))
    mixed = net.op("MatMul", net.op("Softmax", scores, axis=-1), v)
    mixed = net.op("Transpose", mixed, perm=[0, 2, 1, 3])
    graph = optimized(net, linear(net, net.op("Reshape", mixed, net.constant([1, TOKENS, WIDTH], np.int64)), WIDTH))
    assert ops(graph) == {"Dense": 5, "MatMul": 2, "Softmax": 1}
    first, second = (n for n in graph.nodes if n.op == "MatMul")
    assert first.attrs.get("transposed") and not second.attrs.get("transposed")
    softmax = next(n for n in graph.nodes if n.op == "Softmax")
    assert softmax.attrs.get("scale", 1.0) == (0.5 if scaled in ("scores", "divided") else 1.0)


def test_parts_that_are_needed_whole_stay_together(net: Net, optimized: Callable[..., Graph]) -> None:
    x = linear(net, net.input(1, TOKENS, WIDTH), 3 * WIDTH)
    q, k, v = net.op("Split", x, outputs=3, axis=-1)
    graph = optimized(net, net.op("Relu", x), net.op("Mul", q, net.op("Mul", k, v)))
    assert ops(graph)["Dense"] == 1 and ops(graph)["Slice"] == 3


def test_parts_that_overlap_stay_together(net: Net, optimized: Callable[..., Graph]) -> None:
    """Two layers would compute some channels twice."""
    x = linear(net, net.input(1, TOKENS, WIDTH), WIDTH)
    axis = net.constant([-1], np.int64)
    left, right = (
        net.op("Slice", x, net.constant([start], np.int64), net.constant([start + 8], np.int64), axis) for start in (0, 4)
    )
    graph = optimized(net, net.op("Mul", left, right))
    assert ops(graph)["Dense"] == 1


def test_rows_are_no_parts(net: Net, optimized: Callable[..., Graph]) -> None:
    x = linear(net, net.input(1, TOKENS + 1, WIDTH), WIDTH)
    first, second = net.op("Split", x, outputs=2, axis=1)
    assert ops(optimized(net, net.op("Mul", first, second)))["Dense"] == 1


@pytest.mark.parametrize("factor", [-0.5, 0.0])
def test_softmax_of_a_falling_function(net: Net, optimized: Callable[..., Graph], factor: float) -> None:
    x = net.op("Sin", net.input(1, WIDTH))
    graph = optimized(net, net.op("Softmax", net.op("Mul", x, net.constant(factor)), axis=-1))
    assert all("scale" not in n.attrs for n in graph.nodes)


def test_transposed_twice(net: Net, optimized: Callable[..., Graph]) -> None:
    a, b = net.input(1, 2, TOKENS, DEPTH), net.op("Softmax", net.input(1, TOKENS, 2, DEPTH))
    graph = optimized(net, net.op("MatMul", a, net.op("Transpose", b, perm=[0, 2, 3, 1])))
    (product,) = (n for n in graph.nodes if n.op == "MatMul")
    assert product.attrs["transposed"]
    assert [n.attrs["perm"] for n in graph.nodes if n.op == "Transpose"] == [(0, 2, 1, 3)]


def test_a_transposed_factor_that_is_read_twice(net: Net, optimized: Callable[..., Graph]) -> None:
    a, b = net.input(1, TOKENS, DEPTH), net.op("Softmax", net.input(1, TOKENS, DEPTH))
    turned = net.op("Transpose", b, perm=[0, 2, 1])
    graph = optimized(net, net.op("MatMul", a, turned), net.op("MatMul", turned, a))
    assert [bool(n.attrs.get("transposed")) for n in graph.nodes if n.op == "MatMul"] == [False, False]
