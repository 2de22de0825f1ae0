# SPDX-License-Identifier: Apache-2.0
"""Runs the command line in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgekit.cli.app import invoke


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """stdout, which must be one JSON object and nothing else."""
        return json.loads(self.out, parse_constant=lambda text: pytest.fail(f"{text} is not JSON"))


Command = Callable[..., Outcome]


@pytest.fixture
def edgekit(capfd: pytest.CaptureFixture[str]) -> Command:
    def run(*arguments: object) -> Outcome:
        capfd.readouterr()
        code = invoke([str(a) for a in arguments])
        captured = capfd.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def converted(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits model as the README converts it."""
    path = tmp_path_factory.mktemp("converted") / "digits.ekm"
    arguments = ["convert", digits / "digits.onnx", "-o", path, "--calibration", digits / "digits_calib.npz"]
    arguments += ["--input-layout", "nhwc", "--input-std", "16", "--json"]
    assert invoke([str(a) for a in arguments]) == 0
    return path
