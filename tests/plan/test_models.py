# SPDX-License-Identifier: Apache-2.0
"""Plan and file of the reference models: known peaks, known sizes."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from edgekit import importer
from edgekit.format.reader import read
from edgekit.format.rules import check_plan
from edgekit.format.summary import summarize
from edgekit.format.writer import Packing, write
from edgekit.plan import plan
from edgekit.program import Accumulate, Program
from edgekit.quantize import quantize_model

PEAKS = {
    "ic01_resnet8": 49_152,
    "vww01_mobilenetv1_025": 55_296,
    "kws01_dscnn": 16_000,
    "ad01_autoencoder": 768,
    "fashion_dscnn": 37_632,
}
"""Bytes of activations that are live at once, in place where operators allow it."""


@cache
def quantized(path: Path) -> Program:
    """Ranges from the model itself: they do not matter here."""
    return quantize_model(importer.load(path, input_shapes={}), None, warnings=[])


@pytest.mark.parametrize("name", PEAKS)
def test_arena_is_at_the_peak(name: str, shared: Path) -> None:
    program = quantized(shared / "models" / f"{name}.onnx")
    report = plan(program)
    check_plan(program)
    assert report.lower_bound_bytes == PEAKS[name]
    assert report.arena_bytes == PEAKS[name]
    assert not report.reordered
    again = read(write(program))
    assert write(again) == write(program)


@pytest.mark.parametrize(
    ("name", "file_share"), [("ic01_resnet8", 0.40), ("ad01_autoencoder", 0.40), ("kws01_dscnn", 0.50), ("fashion_dscnn", 0.45)]
)
def test_eighty_percent_of_zeros_are_not_stored(name: str, file_share: float, shared: Path) -> None:
    """The smallest four of five weights of every layer set to zero."""
    program = quantized(shared / "models" / f"{name}.onnx")
    plan(program)
    dense = write(program, packing=Packing(sparse_below=0))
    weights = [program.tensors[op.inputs[1]] for op in program.ops if isinstance(op, Accumulate)]
    kept = [tensor.data for tensor in weights]
    for tensor in weights:
        magnitude = np.abs(tensor.data.astype(np.int16)).ravel()
        drop = np.argsort(magnitude, kind="stable")[: round(0.8 * magnitude.size)]
        tensor.data = tensor.data.copy()
        tensor.data.reshape(-1)[drop] = 0
    sparse = write(program)
    assert write(read(sparse)) == sparse
    for tensor, data in zip(weights, kept, strict=True):
        tensor.data = data
    assert summarize(sparse)["weight_bytes"] <= 0.36 * summarize(dense)["weight_bytes"]
    assert len(sparse) <= file_share * len(dense)
