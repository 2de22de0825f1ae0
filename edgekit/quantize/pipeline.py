# SPDX-License-Identifier: Apache-2.0
"""From an imported model to the integer program."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from edgekit.calibrate import Calibration, Progress, calibrate, calibrate_without_data
from edgekit.data import Dataset, DataSource, Preprocessing, open_data
from edgekit.format.schema import Dtype
from edgekit.graph import Graph
from edgekit.importer import ImportedModel
from edgekit.passes.pipeline import optimize
from edgekit.program import Program
from edgekit.quantize import lowerings, ports
from edgekit.quantize.lowering import LOWERINGS, Lowering, Options

assert lowerings  # importing it fills LOWERINGS


def quantize_model(
    imported: ImportedModel,
    calibration: DataSource | Dataset | None = None,
    *,
    method: str = "auto",
    samples: int | None = None,
    preprocessing: Preprocessing | None = None,
    io: Literal["float", "int8"] = "float",
    io_layout: Literal["onnx", "nhwc"] = "onnx",
    bias_correction: bool = True,
    output_rounding: bool = True,
    seed: int = 0,
    warnings: list[str] | None = None,
    progress: Progress | None = None,
) -> Program:
    """Optimizes, calibrates and quantizes a model.

    Args:
        imported: from `importer.load`; its graph is optimized in place.
        calibration: data in any form that `data.open_data` takes; labels in it are not looked at. None
            to take ranges from the model itself.
        method: "auto", or another key of `calibrate.METHODS`.
        samples: use at most this many of them.
        preprocessing: given where data is raw; recorded as a table at the inputs.
        io: "float", or "int8" to keep inputs and outputs quantized.
        io_layout: "onnx", or "nhwc" for image inputs and outputs.
        bias_correction: compensate the mean error of a layer's quantized weights and inputs.
        output_rounding: round weights so that a layer's outputs change least, rather than each to nearest.
        seed: of the synthetic input where there is no data.
        warnings: receives what the user should know.
        progress: called while data streams.

    Raises:
        DataError: the data does not fit the model.
        ModelError: the model cannot be quantized.
    """
    preprocessing = preprocessing or Preprocessing()
    notes = warnings if warnings is not None else []
    graph = imported.graph
    optimize(graph)
    specs = ports.input_specs(graph)
    dataset = calibration
    if calibration is not None and not isinstance(calibration, Dataset):
        dataset = open_data(calibration, specs, preprocessing, samples)
    raw_dtypes = _raw_dtypes(graph, preprocessing, dataset if isinstance(dataset, Dataset) else None)
    if isinstance(dataset, Dataset):
        learned = calibrate(graph, imported.float_model, dataset, method, progress, notes)
    else:
        learned = calibrate_without_data(
            graph, imported.float_model, specs, preprocessing, seed=seed, warnings=notes, progress=progress
        )
    options = Options(io, io_layout, preprocessing, raw_dtypes, bias_correction, output_rounding)
    return quantize(graph, learned, options, notes)


def quantize(
    graph: Graph, calibration: Calibration, options: Options | None = None, warnings: list[str] | None = None
) -> Program:
    """Lowers an optimized graph to the integer program.

    Args:
        graph: after `passes.pipeline.optimize`.
        calibration: a range for every activation.
        warnings: receives what the user should know.

    Raises:
        ModelError: an operator or range that 8-bit integers cannot express.
    """
    options = options or Options()
    ranges = {**calibration.ranges, **_exact_ranges(graph, options)}
    lowering = Lowering(graph, ranges, calibration.patches, options)
    program = lowering.run()
    if warnings is not None:
        warnings.extend(lowering.warnings)
    return program


def _raw_dtypes(graph: Graph, preprocessing: Preprocessing, dataset: Dataset | None) -> dict[str, Dtype]:
    """The raw element type of each input: as said, or that of 8-bit calibration data, or uint8."""
    types = {np.dtype(np.uint8): Dtype.U8, np.dtype(np.int8): Dtype.I8}
    said = types[np.dtype(preprocessing.dtype)] if preprocessing.dtype else None
    return {
        p.name: said or (types.get(dataset.dtype(p.name), Dtype.U8) if dataset else Dtype.U8)
        for p in graph.inputs
    }


def _exact_ranges(graph: Graph, options: Options) -> Mapping[str, tuple[float, float]]:
    """The ranges of inputs fed with raw bytes: what those bytes can become."""
    ranges = {}
    for port, spec in zip(graph.inputs, ports.input_specs(graph), strict=True):
        if options.preprocessing.applies_to(spec, len(graph.inputs)):
            dtype = options.raw_dtypes.get(port.name, Dtype.U8)
            ranges[port.value] = ports.exact_input_range(spec, options.preprocessing, dtype)
    return ranges


__all__ = ["LOWERINGS", "Options", "quantize", "quantize_model"]
