# SPDX-License-Identifier: Apache-2.0
"""The default recipe: ranges that disturb the outputs of the next layers least.

The squared error of a tensor alone misjudges two things: where an activation sits on one value over
large areas (a dark background behind a Relu), rounding it is not noise but an offset that adds up in
the next layer; and a mean error costs nothing, because the next layer's bias takes it back. So
ranges between the least-squares one and the full one are tried on a sample of what the reading layers see.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgekit.calibrate.observers import Range
from edgekit.calibrate.patches import grouped_rows, grouped_weights
from edgekit.graph import Graph, Node
from edgekit.parallel import ahead, processors

_CANDIDATES = 9
_MAX_ROWS, _MIN_ROWS = 512, 64
_ROW_VALUES = 2**17
"""Inputs of one layer that are looked at: fewer rows where each is long."""
_MAX_CHANNELS = 256
"""Output channels of a group that are looked at."""
_LEVELS = 255


def refine(
    graph: Graph, narrow: Mapping[str, Range], wide: Mapping[str, Range], patches: Mapping[str, np.ndarray]
) -> dict[str, Range]:
    """Value name -> the best range between `narrow` and `wide`, for values that layers with weights read."""
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        if node.outputs[0] in patches and node.inputs[0] in narrow and len(patches[node.outputs[0]]) > 1:
            readers.setdefault(node.inputs[0], []).append(node)

    def best(value: str) -> Range:
        return _best(graph, readers[value], narrow[value], wide[value], patches)

    return dict(ahead(best, readers, processors()))


def _best(
    graph: Graph, nodes: list[Node], narrow: Range, wide: Range, patches: Mapping[str, np.ndarray]
) -> Range:
    layers = []
    for node in nodes:
        rows = grouped_rows(graph, node, _thinned(patches[node.outputs[0]]))
        weights = grouped_weights(graph, node)
        weights = weights[:, :: -(-weights.shape[1] // _MAX_CHANNELS)]
        layers.append((rows, weights, _variance(rows, weights)))
    candidates = [
        (n0 + t * (w0 - n0), n1 + t * (w1 - n1))
        for (n0, n1), (w0, w1) in [(narrow, wide)]
        for t in np.linspace(0.0, 1.0, _CANDIDATES)
    ]
    errors = [
        sum(
            _variance(_rounding_error(rows, c), weights) / power
            for rows, weights, power in layers
            if power > 0
        )
        for c in candidates
    ]
    return candidates[int(np.argmin(errors))]


def _thinned(rows: np.ndarray) -> np.ndarray:
    wanted = min(max(_ROW_VALUES * len(rows) // max(rows.size, 1), _MIN_ROWS), _MAX_ROWS)
    return rows[:: max(len(rows) // wanted, 1)]


def _rounding_error(rows: np.ndarray, candidate: Range) -> np.ndarray:
    lo, hi = min(candidate[0], 0.0), max(candidate[1], 0.0)
    if hi <= lo:
        return rows
    step = np.float32((hi - lo) / _LEVELS)
    bottom = np.rint(np.float32(lo) / step)
    return np.clip(np.rint(rows / step), bottom, bottom + _LEVELS) * step - rows


def _variance(rows: np.ndarray, weights: np.ndarray) -> float:
    """Of what a layer makes of rows [G,R,K] with weights [G,O,K], summed over its output channels."""
    outputs = rows @ weights.transpose(0, 2, 1)
    return float(outputs.var(axis=1, dtype=np.float64).sum())
