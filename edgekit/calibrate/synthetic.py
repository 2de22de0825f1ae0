# SPDX-License-Identifier: Apache-2.0
"""Ranges without data: from seeded synthetic input and what the model says of itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from edgekit.calibrate.bounds import propagate
from edgekit.calibrate.calibration import Calibration, Progress, observe, sourced
from edgekit.calibrate.observers import Range, minmax
from edgekit.data import Dataset, InputSpec, Preprocessing, open_data
from edgekit.graph import Graph

SAMPLES = 16
_SIGMAS = 6.0
"""Half-width of a range taken from BatchNormalization statistics, in standard deviations."""


def calibrate_without_data(
    graph: Graph,
    model: onnx.ModelProto,
    specs: Sequence[InputSpec],
    preprocessing: Preprocessing | None = None,
    *,
    seed: int = 0,
    warnings: list[str] | None = None,
    progress: Progress | None = None,
) -> Calibration:
    """Ranges from the model: BatchNormalization statistics where it has them, synthetic input elsewhere.

    Args:
        graph: the optimized graph.
        model: the float model whose tensors `Value.source` names.
        specs: its inputs.
        preprocessing: where given, the input is 8-bit data and its range is known.
        warnings: receives a loud one.
    """
    data = synthetic_data(specs, preprocessing or Preprocessing(), seed)
    watch = observe(graph, model, data, progress)
    ranges = {v.name: minmax(watch.histograms[v.source]) for v in sourced(graph) if v.source is not None}
    ranges.update(batch_norm_ranges(graph))
    if warnings is not None:
        warnings.append(
            "no calibration data: activation ranges are guessed from the model and synthetic input, and accuracy "
            "can be poor; give --calibration with some 100 real samples"
        )
    return Calibration(propagate(graph, ranges), {}, 0)


def batch_norm_ranges(graph: Graph) -> dict[str, Range]:
    """value name -> mean +- 6 sigma over its channels, cut by a fused activation."""
    ranges: dict[str, Range] = {}
    for node in graph.nodes:
        name = node.outputs[0]
        if name not in graph.batch_norm_stats:
            continue
        mean, std = (np.asarray(a, np.float64) for a in graph.batch_norm_stats[name])
        lo, hi = node.attrs.get("clip", (-np.inf, np.inf))
        low, high = float((mean - _SIGMAS * std).min()), float((mean + _SIGMAS * std).max())
        ranges[name] = min(max(low, lo), hi), max(min(high, hi), lo)
    return ranges


def synthetic_data(specs: Sequence[InputSpec], preprocessing: Preprocessing, seed: int) -> Dataset:
    """Seeded noise for every input, raw bytes where preprocessing is given."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for spec in specs:
        count = SAMPLES * max(spec.batch, 1)
        if preprocessing.applies_to(spec, len(specs)):
            raw = tuple(spec.shape[preprocessing.raw_perm(spec).index(i)] for i in range(1, len(spec.shape)))
            dtype = np.dtype(preprocessing.dtype or "uint8")
            info = np.iinfo(dtype)
            arrays[spec.name] = rng.integers(info.min, info.max + 1, (count, *raw)).astype(dtype)
        else:
            arrays[spec.name] = rng.standard_normal((count, *spec.sample_shape), np.float32)
    return open_data(arrays, specs, preprocessing)
