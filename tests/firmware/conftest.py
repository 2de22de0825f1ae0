# SPDX-License-Identifier: Apache-2.0
"""What tests of firmware share."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.building.targets import Target
from edgekit.commands.convert import convert
from edgekit.firmware.boards import board_names
from tests.firmware.boards import ready


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits example, converted."""
    folder = Path(__file__).parents[2] / "firmware_examples" / "digits"
    path = tmp_path_factory.mktemp("model") / "digits.ekm"
    convert(folder / "digits.onnx", path, calibration=folder / "digits_calib.npz")
    return path


@pytest.fixture(params=board_names())
def target(request: pytest.FixtureRequest) -> Target:
    """Every board, one after the other."""
    return ready(request.param)


@pytest.fixture
def any_target() -> Target:
    """One board, where it does not matter which."""
    return ready("cortex-m3")
