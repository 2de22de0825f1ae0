# SPDX-License-Identifier: Apache-2.0
"""Whole networks on every emulated board, as `edgekit verify` runs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.commands.convert import convert
from edgekit.commands.verify import verify_file
from edgekit.firmware.boards import board_names
from edgekit.verify import Report
from tests.backends import boards
from tests.firmware.boards import ready

NAMES = board_names()


def check(report: Report) -> None:
    assert report.ok, report.problems()
    assert [b.name for b in report.backends] == ["reference", *(f"qemu-{name}" for name in NAMES)], report.skipped
    assert len({(b.digest, b.output_digest, b.tensors) for b in report.backends}) == 1


@pytest.fixture(autouse=True)
def all_boards_ready() -> None:
    for name in NAMES:
        ready(name)


def test_digits(digits: Path, tmp_path: Path) -> None:
    path = tmp_path / "digits.ekm"
    convert(digits / "digits.onnx", path, calibration=digits / "digits_calib.npz")
    check(verify_file(path, samples=12, backends=boards(path)))
    check(verify_file(path, digits / "digits_test.npz", samples=20, backends=boards(path)))


@pytest.mark.slow
def test_keywords(shared: Path, tmp_path: Path) -> None:
    path = tmp_path / "keywords.ekm"
    data = shared / "data" / "kws01_calib.npz"
    convert(shared / "models" / "kws01_dscnn.onnx", path, calibration=data, samples=50, input_mean=83, input_std=1.7102956)
    check(verify_file(path, data, samples=2, backends=boards(path)))
