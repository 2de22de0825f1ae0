# SPDX-License-Identifier: Apache-2.0
"""A peer that needs no installation: NumPy in this interpreter."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.bench.client import Client

ADAPTER = '''
import os, pathlib, sys, time
import numpy as np

def version():
    return "7.1"

def prepare(model, samples, folder, recipe):
    if not model.exists():
        raise FileNotFoundError(f"{model} is not here\\nand that is all")
    path = folder / f"{recipe}.txt"
    path.write_text(str(samples["x"].sum()))
    (folder / f"{recipe}.weights").write_bytes(bytes(100))
    return path

class Session:
    def __init__(self, path, threads, inputs):
        print("noise on stdout")
        self.sum, self.inputs, self.runs = float(path.read_text()), inputs, 0

    def run(self):
        self.runs += 1
        if self.runs == EXIT_AT:
            print("out of paper", file=sys.stderr, flush=True)
            os._exit(3)

    def output(self):
        return np.array([self.sum, self.inputs["x"].sum(), self.runs], np.float32)

def start(path, threads, inputs):
    return Session(path, threads, inputs)
'''


@pytest.fixture
def start_peer(tmp_path: Path) -> Callable[..., Client]:
    """A process of the peer, which ends by itself at its run number `exit_at`."""

    def start(exit_at: int = -1) -> Client:
        adapter = tmp_path / "adapter.py"
        adapter.write_text(ADAPTER.replace("EXIT_AT", str(exit_at)))
        return Client("Abacus", Path(sys.executable), adapter)

    return start
