# SPDX-License-Identifier: Apache-2.0
"""Real networks: converted, then the same bits from every backend on synthetic and on real data."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from edgekit.verify import Report

if find_spec("edgekit.runtime._native") is None:
    pytest.skip("the C runtime is not built: pip install .", allow_module_level=True)

from edgekit.commands.convert import convert
from edgekit.commands.verify import verify_file
from tests.backends import without_boards

SAMPLES = 20
"""Real ones, or synthetic ones where there is no data; beside real ones some synthetic ones suffice."""

MODELS: dict[str, dict[str, Any]] = {
    "ic01_resnet8": {"data": "cifar10", "input_layout": "nhwc"},
    "kws01_dscnn": {"data": "kws01", "input_mean": 83, "input_std": 1 / 0.5847029},
    "fashion_dscnn": {"data": "fashion_mnist", "input_std": 255},
    "vww01_mobilenetv1_025": {},
    "ad01_autoencoder": {},
}


def check(report: Report, samples: int) -> None:
    assert report.ok, report.problems()
    assert report.samples == samples
    assert {b.name for b in report.backends} >= {"reference", "c-scalar", "onnxruntime"}
    assert len({b.digest for b in report.backends}) == len({b.output_digest for b in report.backends}) == 1
    assert len({b.tensors for b in report.backends}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_reference_network(name: str, shared: Path, tmp_path: Path) -> None:
    options = dict(MODELS[name])
    data = options.pop("data", None)
    if data is not None:
        options["calibration"] = shared / "data" / f"{data}_calib.npz"
    path = tmp_path / "model.ekm"
    convert(shared / "models" / f"{name}.onnx", path, samples=50 if data else None, **options)
    synthetic = SAMPLES if data is None else 8
    check(verify_file(path, samples=synthetic, backends=without_boards(path)), synthetic)
    if data is not None:
        real = shared / "data" / f"{data}_test.npz"
        check(verify_file(path, real, samples=SAMPLES, backends=without_boards(path)), SAMPLES)


def test_digits(digits: Path, tmp_path: Path) -> None:
    path = tmp_path / "digits.ekm"
    convert(digits / "digits.onnx", path, calibration=digits / "digits_calib.npz")
    check(verify_file(path, samples=100, backends=without_boards(path)), 100)
    check(verify_file(path, digits / "digits_test.npz", samples=100, backends=without_boards(path)), 100)
