# SPDX-License-Identifier: Apache-2.0
"""Files that every reader of major version 1 must load, and whose meaning must not change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekit.format.reader import read
from tests.golden.make import FOLDER, digest, preprocessing

FILES = sorted(FOLDER.glob("*.ekm"))


def test_there_are_golden_files_of_every_encoding() -> None:
    assert {path.stem.rpartition("_")[2] for path in FILES} >= {"dense", "sparse", "interleaved", "paired"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_golden_files_keep_their_meaning(path: Path) -> None:
    expected = json.loads((FOLDER / f"{path.stem.rpartition('_')[0]}.json").read_text())
    program = read(path)
    assert [op.opcode.name for op in program.ops] == expected["ops"]
    assert digest(program) == expected["digest"]
    assert preprocessing(program) == expected["preprocessing"]
