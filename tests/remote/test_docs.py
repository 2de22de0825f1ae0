# SPDX-License-Identifier: Apache-2.0
"""What docs/ says of remote boards is executed and compared."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from edgekit import convert
from edgekit.building.targets import read_targets
from tests.remote.conftest import SshBoard
from tests.remote.test_remote import edgekit


def block(text: str, marker: str, language: str) -> str:
    """The fenced block behind a marker."""
    match = re.search(rf"<!-- {marker} -->\s*```{language}\n(.*?)```", text, re.S)
    assert match, f"there is no block '{marker}'"
    return match[1]


def test_the_commands_of_the_page(
    board: SshBoard, root: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (root / "docs" / "RASPBERRY_PI.md").read_text(encoding="utf-8")
    convert(
        digits / "digits.onnx", tmp_path / "digits.ekm", calibration=digits / "digits_calib.npz",
        target="rpi4", input_layout="nhwc", input_std=16,
    )  # fmt: skip
    shutil.copy(digits / "digits_test.npz", tmp_path)
    np.save(tmp_path / "images.npy", np.load(digits / "digits_test.npz")["x"][:3])
    monkeypatch.chdir(tmp_path)
    printed = {}
    for line in block(page, "remote commands", "sh").strip().splitlines():
        program, command, *arguments = shlex.split(line.replace("pi@raspberrypi.local", board.alias))
        assert program == "edgekit"
        code, printed[command], err = edgekit(command, *arguments)
        assert code == 0, err
    assert list(printed) == ["verify", "bench", "run"]
    # Names and counts are the page's; the digest is one.
    expected = [line.split() for line in block(page, "remote output", "text").splitlines()]
    rows = [line.split() for line in printed["verify"].splitlines()]
    assert [row[:4] for row in rows] == [row[:4] for row in expected]
    assert len({row[4] for row in rows[1:4]}) == 1
    assert (tmp_path / "scores.npz").is_file()


def test_the_architectures_of_the_page(root: Path) -> None:
    page = (root / "docs" / "TARGETS.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[^|]*`) \| `([\w-]+)` \|$", page.split("| `uname -m` | target |")[1].split("##")[0], re.M)
    listed = {machine: target for machines, target in rows for machine in re.findall(r"`(\w+)`", machines)}
    described = [(machine, target.name) for target in read_targets(root) for machine in target.machines]
    assert listed == dict(described) and len(described) == len(listed), "each belongs to one target"
