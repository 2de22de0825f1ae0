# SPDX-License-Identifier: Apache-2.0
"""Ranges that follow from others, by interval arithmetic.

Fills in values that no ONNX tensor holds, such as those around inserted nodes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgekit.calibrate.observers import Range
from edgekit.graph import Graph, Node
from edgekit.passes import unary

_Bound = Callable[[Graph, Node, list[Range]], Range]


def propagate(graph: Graph, ranges: dict[str, Range]) -> dict[str, Range]:
    """`ranges` completed for every activation.

    Args:
        ranges: value name -> (lo, hi); must hold the model's inputs.
    """
    done = dict(ranges)
    for node in graph.nodes:
        for output in node.outputs:
            if output not in done:
                done[output] = bound(graph, node, [_range(graph, done, i) for i in node.inputs])
    return done


def bound(graph: Graph, node: Node, inputs: list[Range]) -> Range:
    """A range that holds `node`'s output where its inputs lie in `inputs`."""
    lo, hi = _BOUNDS.get(node.op, _first)(graph, node, inputs)
    clip_lo, clip_hi = node.attrs.get("clip", (-np.inf, np.inf))
    return min(max(lo, clip_lo), clip_hi), max(min(hi, clip_hi), clip_lo)


def _range(graph: Graph, done: dict[str, Range], value: str) -> Range:
    data = graph.constant(value)
    if data is None:
        return done[value]
    return (float(data.min()), float(data.max())) if data.size else (0.0, 0.0)


def _first(graph: Graph, node: Node, inputs: list[Range]) -> Range:
    return inputs[0]


def _accumulate(graph: Graph, node: Node, inputs: list[Range]) -> Range:
    """The exact extremes over all inputs of a layer with weights, padding included."""
    w = np.asarray(graph.constant(node.inputs[1]), np.float64)
    axes = (0, 1) if node.op == "DepthwiseConv" else tuple(range(1, w.ndim))
    lo, hi = min(inputs[0][0], 0.0), max(inputs[0][1], 0.0)
    positive, negative = np.maximum(w, 0).sum(axes), np.minimum(w, 0).sum(axes)
    b = graph.constant(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(1)
    assert b is not None
    return float((positive * lo + negative * hi + b).min()), float((positive * hi + negative * lo + b).max())


def _matmul(graph: Graph, node: Node, inputs: list[Range]) -> Range:
    k = graph.values[node.inputs[0]].shape[-1]
    lo, hi = _mul(graph, node, inputs)
    return lo * k, hi * k


def _add(graph: Graph, node: Node, inputs: list[Range]) -> Range:
    return inputs[0][0] + inputs[1][0], inputs[0][1] + inputs[1][1]


def _sub(graph: Graph, node: Node, inputs: list[Range]) -> Range:
    return inputs[0][0] - inputs[1][1], inputs[0][1] - inputs[1][0]


def _mul(graph: Graph, node: Node, inputs: list[Range]) -> Range:
    products = [a * b for a in inputs[0] for b in inputs[1]]
    return min(products), max(products)


def _prelu(graph: Graph, node: Node, inputs: list[Range]) -> Range:
    slope = np.asarray(graph.constant(node.inputs[1]), np.float64)
    lo, hi = inputs[0]
    ends = [
        max(lo, 0.0),
        max(hi, 0.0),
        *(min(lo, 0.0) * slope.reshape(-1)),
        *(min(hi, 0.0) * slope.reshape(-1)),
    ]
    return float(min(ends)), float(max(ends))


def _unary(graph: Graph, node: Node, inputs: list[Range]) -> Range:
    lo, hi = unary.output_range(unary.chain(node), *inputs[0])
    x = unary.apply(node, np.linspace(*inputs[0], 257))
    x = x[np.isfinite(x)]
    ends = (float(x.min()), float(x.max())) if x.size else (0.0, 0.0)
    return lo if np.isfinite(lo) else ends[0], hi if np.isfinite(hi) else ends[1]


def _softmax(graph: Graph, node: Node, inputs: list[Range]) -> Range:
    return 0.0, 1.0


def _layer_norm(graph: Graph, node: Node, inputs: list[Range]) -> Range:
    """No element lies further from the mean of n than sqrt(n - 1) deviations."""
    gamma, beta = (graph.constant(name) for name in node.inputs[1:])
    assert gamma is not None and beta is not None, node.name
    reach = np.sqrt(max(gamma.size - 1, 1)) * np.abs(gamma.astype(np.float64))
    return float((beta - reach).min()), float((beta + reach).max())


def _pad(graph: Graph, node: Node, inputs: list[Range]) -> Range:
    value = float(node.attrs["value"])
    return (min(inputs[0][0], value), max(inputs[0][1], value)) if np.isfinite(value) else inputs[0]


def _concat(graph: Graph, node: Node, inputs: list[Range]) -> Range:
    return min(lo for lo, _ in inputs), max(hi for _, hi in inputs)


_BOUNDS: dict[str, _Bound] = {
    "Conv": _accumulate,
    "DepthwiseConv": _accumulate,
    "Dense": _accumulate,
    "MatMul": _matmul,
    "Add": _add,
    "Sub": _sub,
    "Mul": _mul,
    "PRelu": _prelu,
    "Unary": _unary,
    "Softmax": _softmax,
    "LayerNorm": _layer_norm,
    "Pad": _pad,
    "Concat": _concat,
}
"""The others move values and keep their input's range."""
