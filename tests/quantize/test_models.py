# SPDX-License-Identifier: Apache-2.0
"""The default recipe on the reference models: int8 against float on their test data."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edgekit.data import Dataset, Preprocessing, open_data
from edgekit.format.schema import Region
from edgekit.importer import ImportedModel, load
from edgekit.program import Program
from edgekit.quantize import input_specs, quantize_model
from edgekit.reference import run

BATCH = 50


@dataclass(frozen=True)
class Case:
    """A reference model, its data, and the least SQNR (dB) and agreement that int8 must reach."""

    model: str
    data: str
    preprocessing: Preprocessing
    sqnr: float
    agreement: float


CASES = {
    "kws01": Case("kws01_dscnn", "kws01", Preprocessing("nhwc", (83.0,), (1 / 0.5847029,)), 26.0, 0.97),
    "ic01": Case("ic01_resnet8", "cifar10", Preprocessing("nhwc"), 26.0, 0.965),
    "fashion": Case("fashion_dscnn", "fashion_mnist", Preprocessing(std=(255.0,)), 27.0, 0.975),
}


def of_batch(program: Program, size: int) -> Program:
    """`program` for `size` samples at a time: its operators treat every sample alike."""
    wide = copy.copy(program)
    wide.tensors = {name: copy.copy(t) for name, t in program.tensors.items()}
    for tensor in wide.tensors.values():
        if tensor.region != Region.READONLY:
            tensor.shape = (size, *tensor.shape[1:])
    return wide


def integer_outputs(program: Program, data: Dataset) -> np.ndarray:
    """The first output for every sample."""
    samples = [b.inputs[program.inputs[0]] for b in data.batches()]
    outputs = []
    for i in range(0, len(samples), BATCH):
        x = np.concatenate(samples[i : i + BATCH])
        outputs.append(run(of_batch(program, len(x)), {program.inputs[0]: x})[program.outputs[0]])
    return np.concatenate(outputs)


def float_outputs(imported: ImportedModel, data: Dataset) -> np.ndarray:
    session = onnxruntime.InferenceSession(imported.model.SerializeToString())
    return np.concatenate([session.run(None, b.inputs)[0] for b in data.batches()])


def sqnr_db(exact: np.ndarray, approximate: np.ndarray) -> float:
    exact = exact.astype(np.float64)
    return float(10 * np.log10(np.sum(exact**2) / np.sum((exact - approximate) ** 2)))


def opened(case: Case, shared: Path, part: str, imported: ImportedModel, limit: int) -> Dataset:
    path = shared / "data" / f"{case.data}_{part}.npz"
    return open_data(path, input_specs(imported.graph), case.preprocessing, limit)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CASES))
def test_the_default_recipe_on_reference_models(shared: Path, name: str) -> None:
    case = CASES[name]
    imported = load(shared / "models" / f"{case.model}.onnx")
    calibration = shared / "data" / f"{case.data}_calib.npz"
    program = quantize_model(imported, calibration, preprocessing=case.preprocessing, samples=100)
    data = opened(case, shared, "test", imported, 400)
    exact, quantized = float_outputs(imported, data), integer_outputs(program, data)
    assert np.mean(exact.argmax(1) == quantized.argmax(1)) >= case.agreement
    assert sqnr_db(exact, quantized) >= case.sqnr
    correct = [np.mean(o.argmax(1) == data.labels) for o in (exact, quantized)]
    # Three standard errors of the samples on which both disagree lie within this.
    assert abs(correct[0] - correct[1]) <= 0.02


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CASES))
def test_without_data_reference_models_still_work(shared: Path, name: str) -> None:
    case = CASES[name]
    imported = load(shared / "models" / f"{case.model}.onnx")
    warnings: list[str] = []
    program = quantize_model(imported, preprocessing=case.preprocessing, warnings=warnings)
    assert warnings
    data = opened(case, shared, "test", imported, 200)
    agreement = np.mean(float_outputs(imported, data).argmax(1) == integer_outputs(program, data).argmax(1))
    assert agreement >= 0.9


def test_raw_and_normalized_data_are_the_same_model(shared: Path) -> None:
    """The table of raw bytes gives the bits that float input gives."""
    case = CASES["kws01"]
    imported = load(shared / "models" / f"{case.model}.onnx")
    data = opened(case, shared, "test", imported, 20)
    program = quantize_model(
        imported, shared / "data" / "kws01_calib.npz", preprocessing=case.preprocessing, samples=20
    )
    for normalized, raw in zip(data.batches(), data.raw_batches(), strict=True):
        first, second = run(program, normalized.inputs), run(program, raw.inputs)
        np.testing.assert_array_equal(first[program.outputs[0]], second[program.outputs[0]])


@pytest.mark.parametrize("name", ["ad01_autoencoder", "vww01_mobilenetv1_025"])
def test_models_without_data_here(shared: Path, name: str, rng: np.random.Generator) -> None:
    imported = load(shared / "models" / f"{name}.onnx")
    program = quantize_model(imported)
    shape = imported.graph.inputs[0].shape
    smooth = rng.standard_normal((20, *[1] * (len(shape) - 1))) + 0.5 * rng.standard_normal((20, *shape[1:]))
    x = np.clip(0.3 * smooth + 0.5, 0, 1) if len(shape) == 4 else 8 * smooth - 25
    data = open_data(x.astype(np.float32), input_specs(imported.graph))
    assert sqnr_db(float_outputs(imported, data), integer_outputs(program, data)) >= 25.0
