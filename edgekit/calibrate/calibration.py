# SPDX-License-Identifier: Apache-2.0
"""Streams data through the float model and learns a range for every value of the graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx

from edgekit.calibrate.bounds import propagate
from edgekit.calibrate.observers import METHODS, Histogram, Range, minmax
from edgekit.calibrate.patches import LAYERS, Patches
from edgekit.calibrate.refine import refine
from edgekit.calibrate.taps import Taps
from edgekit.data import Batch, Dataset, real_part
from edgekit.errors import DataError, ModelError
from edgekit.graph import Graph, Value
from edgekit.importer.session import FloatModel
from edgekit.memory import give_back

FEW_SAMPLES = 10
"""With fewer there is a warning."""

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all) while data streams."""


@dataclass
class Calibration:
    """What quantization needs to know of the activations.

    Attributes:
        ranges: value name -> (lo, hi) to represent, for every activation of the graph.
        patches: output value of a Conv, DepthwiseConv or Dense -> a sample of what it reads, one row per
            output position: float32[R, KH, KW, C], or [R, K]. Empty where no data was given.
        samples: number of samples seen; 0 without data.
    """

    ranges: dict[str, Range]
    patches: dict[str, np.ndarray] = field(default_factory=dict)
    samples: int = 0


def calibrate(
    graph: Graph,
    model: onnx.ModelProto | FloatModel,
    data: Dataset,
    method: str = "auto",
    progress: Progress | None = None,
    warnings: list[str] | None = None,
) -> Calibration:
    """Learns ranges from data, in one pass over it where the inner tensors fit `taps.TAP_BYTES`.

    Args:
        graph: the optimized graph.
        model: the float model whose tensors `Value.source` names.
        data: samples for its inputs.
        method: a key of `METHODS`.
        warnings: receives doubts about the data.

    Raises:
        DataError: unusable data or an unknown method.
        ModelError: the model fails or overflows on the data.
    """
    if method not in METHODS:
        raise DataError(f"--method {method}: not a calibration method; use one of {', '.join(METHODS)}")
    watch = observe(graph, model, data, progress)
    give_back()  # the session's
    if warnings is not None:
        warnings.extend(_doubts(graph, watch, data.samples))
    patches = watch.rows()
    ranges = _ranges(graph, watch, METHODS[method])
    if method == "auto":
        full = _ranges(graph, watch, minmax)
        ranges.update(refine(graph, ranges, full, patches))
        # Inputs and outputs keep everything that occurred: rare samples can be the ones that count.
        ranges.update({p.value: full[p.value] for p in (*graph.inputs, *graph.outputs) if p.value in full})
    return Calibration(propagate(graph, ranges), patches, data.samples)


def _doubts(graph: Graph, watch: Observations, samples: int) -> Iterator[str]:
    """Why data may be no good sample of what the model will see."""
    for port in graph.inputs:
        seen = watch.histograms[graph.values[port.value].source or ""]
        if seen.lo == seen.hi:
            yield f"calibration data: input '{port.name}' is {seen.lo:g} throughout and tells no range; give real samples"
    if samples < FEW_SAMPLES:
        few = "one sample is" if samples == 1 else f"{samples} samples are"
        yield f"calibration data: {few} few, and what others hold beyond their ranges is cut off; give some 100"


def _ranges(graph: Graph, watch: Observations, choose: Callable[[Histogram], Range]) -> dict[str, Range]:
    chosen = {source: choose(h) for source, h in watch.histograms.items()}
    return {v.name: chosen[v.source] for v in sourced(graph) if v.source is not None}


def observe(
    graph: Graph, model: onnx.ModelProto | FloatModel, data: Dataset, progress: Progress | None = None
) -> Observations:
    """Streams `data` once per pass of the taps and watches every value that has a source."""
    watch = Observations(graph, sourced(graph), data.samples, data.executions)
    taps = Taps(model, watch.sizes)
    total, done = data.samples * taps.passes, 0
    for index in range(taps.passes):
        for batch, tensors in taps.stream(index, data.batches()):
            for source, array in tensors:
                watch.add(source, array, batch)
            done += batch.count
            if progress:
                progress(done, total)
    return watch


def _numbered(batch: Batch) -> str:
    """Which samples are real: "sample 3", or "samples 4 to 7"."""
    last = batch.first + batch.count - 1
    return f"sample {last}" if batch.count == 1 else f"samples {batch.first} to {last}"


def sourced(graph: Graph) -> list[Value]:
    """The activations that an ONNX tensor holds."""
    return [v for v in graph.activations() if v.source is not None]


class Observations:
    """Histograms by ONNX tensor, and samples of what layers with weights read.

    Args:
        values: those to watch; each has a source.
        samples, executions: how many will stream, in how many batches.
    """

    def __init__(self, graph: Graph, values: Iterable[Value], samples: int, executions: int) -> None:
        layers = [n for n in graph.nodes if n.op in LAYERS]
        self.sizes: dict[str, int] = {}
        self.histograms: dict[str, Histogram] = {}
        self._readers: dict[str, list[tuple[Value, list[tuple[str, Patches]]]]] = {}
        for value in values:
            source = value.source or ""
            self.sizes[source] = math.prod(value.shape)
            self.histograms[source] = Histogram(executions)
            readers = [
                (n.outputs[0], Patches(graph, n, samples, len(layers)))
                for n in layers
                if n.inputs[0] == value.name
            ]
            if readers:
                self._readers.setdefault(source, []).append((value, readers))

    def add(self, source: str, array: np.ndarray, batch: Batch) -> None:
        """Counts one execution's tensor; samples that only fill up a fixed batch are left out."""
        if not self.histograms[source].add(real_part(array, batch.size, batch.count)):
            raise ModelError(
                f"tensor '{source}' of the float model overflows (NaN or Inf) on calibration "
                f"{_numbered(batch)}; check --input-mean/--input-std and the data"
            )
        for value, readers in self._readers.get(source, ()):
            here = array if value.source_perm is None else array.transpose(value.source_perm)
            for _, patches in readers:
                patches.add(here, batch.count)

    def rows(self) -> dict[str, np.ndarray]:
        """Output value of a layer -> rows of its input."""
        return {
            name: patches.rows()
            for pairs in self._readers.values()
            for _, readers in pairs
            for name, patches in readers
        }
