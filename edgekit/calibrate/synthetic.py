# SPDX-License-Identifier: Apache-2.0
"""Ranges without data: from seeded synthetic input and what the model says of itself.

What an input looks like is guessed from the first layer that reads it. Behind training its outputs are
roughly centered and of unit variance, with batch norm folded or not, so its bias tells the mean of the
input and its weights tell the spread.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from edgekit.calibrate.bounds import propagate
from edgekit.calibrate.calibration import Calibration, Progress, observe, sourced
from edgekit.calibrate.observers import Range, minmax
from edgekit.calibrate.patches import LAYERS, grouped_weights
from edgekit.data import Dataset, InputSpec, Preprocessing, open_data
from edgekit.graph import Graph, Node
from edgekit.importer.session import FloatModel

SAMPLES = 32
_PATCH = 8
"""Elements along each dimension that share a coarse value."""
_INPUT_SIGMAS = 4.0
_LARGEST = 1e15
"""Mean and deviation guessed for an input at most: weights next to zero ask for more than binary32 can square."""
_SIGMAS = 6.0
"""Half-width of a range taken from BatchNormalization statistics, in standard deviations."""


def calibrate_without_data(
    graph: Graph,
    model: onnx.ModelProto | FloatModel,
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
    data = synthetic_data(graph, specs, preprocessing or Preprocessing(), seed)
    watch = observe(graph, model, data, progress)
    ranges = {v.name: minmax(watch.histograms[v.source]) for v in sourced(graph) if v.source is not None}
    ranges.update(batch_norm_ranges(graph))
    for port in graph.inputs:
        mean, std = input_statistics(graph, port.value)
        lo, hi = ranges.get(port.value, (0.0, 0.0))
        ranges[port.value] = min(lo, mean - _INPUT_SIGMAS * std), max(hi, mean + _INPUT_SIGMAS * std)
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


def synthetic_data(
    graph: Graph, specs: Sequence[InputSpec], preprocessing: Preprocessing, seed: int
) -> Dataset:
    """Seeded noise for every input, raw bytes where preprocessing is given."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for port, spec in zip(graph.inputs, specs, strict=True):
        noise = _noise(rng, spec)
        if preprocessing.applies_to(spec, len(specs)):
            dtype = np.dtype(preprocessing.dtype or "uint8")
            info = np.iinfo(dtype)
            values = np.clip(np.rint(noise * 64 + (info.max + info.min) / 2), info.min, info.max)
            arrays[spec.name] = _in_raw_layout(values, spec, preprocessing).astype(dtype)
        else:
            mean, std = input_statistics(graph, port.value)
            arrays[spec.name] = np.float32(mean + std * noise)
    return open_data(arrays, specs, preprocessing)


def input_statistics(graph: Graph, value: str) -> tuple[float, float]:
    """Likely mean and standard deviation of an input; (0, 1) where no layer with weights reads it directly."""
    layer = _first_layer(graph, value)
    if layer is None:
        return 0.0, 1.0
    w = grouped_weights(graph, layer).astype(np.float64)
    w = w.reshape(-1, w.shape[-1])
    b = graph.constant(layer.inputs[2]) if len(layer.inputs) > 2 else None
    total, power = w.sum(axis=1), np.median((w * w).sum(axis=1))
    mean = 0.0
    if b is not None and total @ total > 0:
        mean = -float(total @ np.asarray(b, np.float64).reshape(-1)) / float(total @ total)
    std = float(1 / np.sqrt(power)) if power > 0 else 1.0
    return float(np.clip(mean, -_LARGEST, _LARGEST)), min(std, _LARGEST)


def _first_layer(graph: Graph, value: str) -> Node | None:
    pending = [value]
    while pending:
        for node in graph.consumers(pending.pop(0)):
            if node.op in LAYERS:
                return node
            if node.op in ("Reshape", "Transpose", "Slice", "Pad"):
                pending.extend(node.outputs)
    return None


def _noise(rng: np.random.Generator, spec: InputSpec) -> np.ndarray:
    """Of about unit variance, a third each: an offset of the sample, coarse patches, single elements."""
    shape = (SAMPLES * max(spec.batch, 1), *spec.sample_shape)
    noise = rng.standard_normal(shape) + rng.standard_normal((shape[0], *[1] * (len(shape) - 1)))
    coarse = rng.standard_normal((shape[0], *(-(-d // _PATCH) for d in shape[1:])))
    for axis in range(1, len(shape)):
        coarse = np.repeat(coarse, _PATCH, axis=axis).take(range(shape[axis]), axis=axis)
    return (noise + coarse) / np.sqrt(3)


def _in_raw_layout(values: np.ndarray, spec: InputSpec, preprocessing: Preprocessing) -> np.ndarray:
    return values.transpose(np.argsort(preprocessing.raw_perm(spec)))
