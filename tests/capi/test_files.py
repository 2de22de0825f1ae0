# SPDX-License-Identifier: Apache-2.0
"""Files that must load and files that must not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.runtime.capi import lib
from tests.capi.net import File, Net, text

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"
VALID = sorted((CORPUS / "valid").glob("*.ekm"))
REFUSE = sorted((CORPUS / "refuse").glob("*.ekm"))


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_valid_files_run(path: Path) -> None:
    net = Net(path.read_bytes())
    net.run({name: np.zeros_like(array) for name, array in net.inputs.items()})


@pytest.mark.parametrize("path", REFUSE, ids=lambda path: path.stem)
def test_broken_files_are_refused_for_what_is_wrong(path: Path) -> None:
    file = File(path.read_bytes())
    expected = path.stem.split("-")[0]
    assert text(file.status) == text(getattr(lib, f"EK_ERROR_{expected}"))


def test_every_truncation_is_refused() -> None:
    data = (CORPUS / "valid" / "network_interleaved.ekm").read_bytes()
    statuses = {File(data[:size]).status for size in range(len(data))}
    assert statuses == {lib.EK_ERROR_MAGIC, lib.EK_ERROR_TRUNCATED}


def test_every_bit_flip_is_refused() -> None:
    data = bytearray((CORPUS / "valid" / "network_interleaved.ekm").read_bytes())
    for at in range(len(data)):
        for bit in range(8):
            data[at] ^= 1 << bit
            assert File(bytes(data)).status != lib.EK_OK, f"bit {bit} of byte {at}"
            data[at] ^= 1 << bit
