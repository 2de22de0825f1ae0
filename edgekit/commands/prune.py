# SPDX-License-Identifier: Apache-2.0
"""Prunes files and shows what it costs and gains, as `edgekit prune` and `edgekit convert --prune` do."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from edgekit import importer
from edgekit.atomic import write_atomically
from edgekit.bench import bench
from edgekit.commands import Progress, no_progress
from edgekit.commands.eval import evaluate
from edgekit.data import DataSource, Preprocessing, open_data
from edgekit.errors import InputError, ModelError
from edgekit.files import check_destination
from edgekit.prune import prune_sparsity, prune_structured, statistics
from edgekit.quantize import input_specs

if TYPE_CHECKING:
    from edgekit.commands.convert import Converted

LATENCY_SECONDS = 0.2


@dataclass(frozen=True)
class Pruned:
    """A smaller ONNX model and its figures; see `compare_sizes`."""

    model: Path
    before: dict[str, Any]
    after: dict[str, Any]
    warnings: list[str] = field(default_factory=list)


def prune_file(
    model: Path,
    output: Path,
    *,
    structured: float | None = None,
    sparsity: float | None = None,
    calibration: DataSource | None = None,
    data: DataSource | None = None,
    preprocessing: Preprocessing | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    progress: Progress | None = None,
) -> Pruned:
    """Writes a pruned ONNX model, completely or not at all.

    Args:
        structured: share of the channels to remove from every prunable group.
        sparsity: share of the weights to set to zero.
        calibration: samples; channels are then ranked by mean activation instead of weight magnitude, and
            the int8 figures are measured with ranges from them.
        data: labelled data, for accuracy before and after.

    Raises:
        InputError: neither or both kinds are asked for, or the model, data or output cannot be used.
    """
    from edgekit.commands.convert import convert_preprocessed

    if output.suffix != ".onnx":
        raise InputError(f"{output}: a pruned model is written as .onnx; name it so")
    check_destination(output, model, calibration, data)
    preprocessing = preprocessing or Preprocessing()
    report = progress or no_progress
    with tempfile.TemporaryDirectory(prefix="edgekit-prune-") as work:
        folder = Path(work)
        before, after = folder / "before.onnx", folder / "after.onnx"
        warnings = prune_into(model, before, after, structured, sparsity, calibration, preprocessing, input_shapes, report)
        files = [
            convert_preprocessed(path, path.with_suffix(".ekm"), calibration, preprocessing, report)
            for path in (before, after)
        ]
        figures = compare_sizes((before, after), files, data, preprocessing, report)
        write_atomically(output, after.read_bytes())
    notes = [note for note in files[1].warnings if calibration is not None]
    return Pruned(output, *figures, warnings=[*warnings, *notes])


def prune_into(
    model: Path,
    before: Path,
    after: Path,
    structured: float | None,
    sparsity: float | None,
    calibration: DataSource | None,
    preprocessing: Preprocessing,
    input_shapes: Mapping[str, Sequence[int]] | None,
    progress: Progress,
) -> list[str]:
    """Writes `model` as imported to `before` and pruned to `after`; returns the importer's warnings."""
    if structured is None and sparsity is None:
        raise InputError("nothing to prune: give --structured R or --sparsity R")
    progress("pruning", 0, 0)
    imported = importer.load(model, input_shapes=input_shapes)
    smaller = original = imported.model
    if structured is not None:
        samples = None if calibration is None else open_data(calibration, input_specs(imported.graph), preprocessing)
        try:
            smaller = prune_structured(smaller, structured, "magnitude" if samples is None else "activation", samples)
        except ModelError as error:
            raise ModelError(f"{model}: {error}") from None
    if sparsity is not None:
        smaller = prune_sparsity(smaller, sparsity)
    write_atomically(before, original.SerializeToString())
    write_atomically(after, smaller.SerializeToString())
    progress("pruning", 1, 1)
    return imported.warnings


def compare_sizes(
    models: tuple[Path, Path],
    files: Sequence[Converted],
    data: DataSource | None,
    preprocessing: Preprocessing,
    progress: Progress,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Figures of two models, before and after.

    `parameters`, `nonzero_parameters`, `macs` and `bytes` are the ONNX model's; `ekm_bytes`, `weight_bytes`,
    `arena_bytes` and `latency_us` those of the int8 file, latency with one thread here, both interleaved; with
    labelled data also `accuracy_float` and `accuracy_int8`, shares of the samples.
    """
    timings = bench(_file(files[0]), vs=[f"edgekit:{_file(files[1])}"], seconds=LATENCY_SECONDS, progress=progress)
    rows = []
    for path, converted, timing in zip(models, files, timings, strict=True):
        row: dict[str, Any] = statistics(onnx.load(path)).as_dict()
        row |= {
            "ekm_bytes": converted.bytes,
            "weight_bytes": converted.weight_bytes,
            "arena_bytes": converted.arena_bytes,
            "latency_us": timing.median_us,
        }
        if data is not None:
            row["accuracy_float"] = evaluate(path, data, "top1", preprocessing, progress=progress).value
            row["accuracy_int8"] = evaluate(_file(converted), data, "top1", progress=progress).value
        rows.append(row)
    return rows[0], rows[1]


def _file(converted: Converted) -> Path:
    assert converted.model is not None
    return converted.model
