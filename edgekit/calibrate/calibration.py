# SPDX-License-Identifier: Apache-2.0
"""Streams data through the float model and learns a range for every value of the graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import onnx

from edgekit.calibrate.bounds import propagate
from edgekit.calibrate.observers import METHODS, Histogram, Range
from edgekit.calibrate.taps import Taps
from edgekit.data import Batch, Dataset
from edgekit.errors import DataError, ModelError
from edgekit.graph import Graph, Value

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all) while data streams."""


@dataclass
class Calibration:
    """What quantization needs to know of the activations.

    Attributes:
        ranges: value name -> (lo, hi) to represent, for every activation of the graph.
        means: value name -> float64[C], the mean by channel (last dimension) of what a Conv,
            DepthwiseConv or Dense reads. Empty where no data was given.
        samples: number of samples seen; 0 without data.
    """

    ranges: dict[str, Range]
    means: dict[str, np.ndarray] = field(default_factory=dict)
    samples: int = 0


def calibrate(
    graph: Graph,
    model: onnx.ModelProto,
    data: Dataset,
    method: str = "auto",
    progress: Progress | None = None,
) -> Calibration:
    """Learns ranges from data, in one pass over it where the inner tensors fit `taps.TAP_BYTES`.

    Args:
        graph: the optimized graph.
        model: the float model whose tensors `Value.source` names.
        data: samples for its inputs.
        method: a key of `METHODS`.

    Raises:
        DataError: unusable data or an unknown method.
        ModelError: the model fails or overflows on the data.
    """
    if method not in METHODS:
        raise DataError(f"--method {method}: not a calibration method; use one of {', '.join(METHODS)}")
    watch = observe(graph, model, data, progress)
    choose = METHODS[method]
    chosen = {source: choose(h) for source, h in watch.histograms.items()}
    ranges = {v.name: chosen[v.source] for v in sourced(graph) if v.source is not None}
    return Calibration(propagate(graph, ranges), watch.means(), data.samples)


def observe(
    graph: Graph, model: onnx.ModelProto, data: Dataset, progress: Progress | None = None
) -> Observations:
    """Streams `data` once per pass of the taps and watches every value that has a source."""
    watch = Observations(graph, sourced(graph))
    taps = Taps(model, watch.sizes)
    total, done = data.samples * taps.passes, 0
    for index in range(taps.passes):
        for batch in data.batches():
            for source, array in taps.run(index, batch.inputs):
                watch.add(source, array, batch)
            done += batch.count
            if progress:
                progress(done, total)
    return watch


def sourced(graph: Graph) -> list[Value]:
    """The activations that an ONNX tensor holds."""
    return [v for v in graph.activations() if v.source is not None]


class Observations:
    """Histograms by ONNX tensor, and sums by channel of what layers with weights read."""

    def __init__(self, graph: Graph, values: Iterable[Value]) -> None:
        read = {n.inputs[0] for n in graph.nodes if n.op in ("Conv", "DepthwiseConv", "Dense")}
        self.sizes: dict[str, int] = {}
        self.histograms: dict[str, Histogram] = {}
        self._averaged: dict[str, list[Value]] = {}
        self._sums: dict[str, np.ndarray] = {}
        self._counts: dict[str, int] = {}
        for value in values:
            source = value.source or ""
            self.sizes[source] = math.prod(value.shape)
            self.histograms[source] = Histogram()
            if value.name in read:
                self._averaged.setdefault(source, []).append(value)

    def add(self, source: str, array: np.ndarray, batch: Batch) -> None:
        """Counts one execution's tensor; rows that only fill up a fixed batch are left out."""
        if not np.isfinite(array).all():
            raise ModelError(
                f"tensor '{source}' of the float model overflows (NaN or Inf) on calibration samples "
                f"{batch.first} to {batch.first + batch.count - 1}; check --input-mean/--input-std and the data"
            )
        for value in self._averaged.get(source, ()):
            self._average(value, array)
        fixed = len(next(iter(batch.inputs.values())))
        real = array[: batch.count] if array.ndim and len(array) == fixed else array
        self.histograms[source].add(np.asarray(real, np.float32))

    def means(self) -> dict[str, np.ndarray]:
        """value name -> float64[C]"""
        return {name: total / self._counts[name] for name, total in self._sums.items()}

    def _average(self, value: Value, array: np.ndarray) -> None:
        if value.source_perm is not None:
            array = array.transpose(value.source_perm)
        rows = array.reshape(-1, value.shape[-1])
        self._sums[value.name] = self._sums.get(value.name, 0.0) + rows.sum(axis=0, dtype=np.float64)
        self._counts[value.name] = self._counts.get(value.name, 0) + len(rows)
