# SPDX-License-Identifier: Apache-2.0
"""edgekit called by a program in C, `from_c.c`, as a peer of the comparison."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import edgekit
from edgekit.bench.adapters.edgekit import quantized
from edgekit.bench.client import TIMEOUT, Answering, PeerError
from edgekit.parallel import processors

ROOT = Path(__file__).resolve().parents[1]


def build(folder: Path, source: str = "from_c") -> Path:
    """A program of this folder, compiled with the libraries of this checkout, which are built first.

    Raises:
        PeerError: they cannot be built.
    """
    run(source, [sys.executable, "-m", "SCons", "-C", str(ROOT), "-s", f"-j{processors()}"])
    return compile_with(ROOT / "build" / "host", folder, source)


def compile_with(libraries: Path, folder: Path, source: str = "from_c") -> Path:
    """As `build`, with the static libraries in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / source
    run(source, [
        os.environ.get("CC", "cc"), "-O2", "-std=c11", "-Wall", "-Wextra", "-Werror",
        "-I", str(ROOT / "csrc" / "include"), str(ROOT / "benchmarks" / f"{source}.c"),
        str(libraries / "libedgekit_threads.a"), str(libraries / "libedgekit.a"), "-pthread",
        "-o", str(program),
    ])  # fmt: skip
    return program


def run(source: str, command: list[str]) -> None:
    """Raises PeerError with what the command says if it fails."""
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise PeerError(f"{source}.c: {getattr(error, 'stderr', '') or error}") from error


class Program:
    """Answers what `edgekit/bench/server.py` does, once it was told to start."""

    def __init__(self, name: str, program: Path) -> None:
        self.name, self._program = name, program
        self._process: Answering | None = None

    def request(self, request: str, timeout: float = TIMEOUT, **arguments: Any) -> dict[str, Any]:
        """The answer to one request.

        Raises:
            PeerError: the program ended, or did not answer in time.
        """
        if request == "start":
            return self._start(**arguments)
        assert self._process is not None
        return self._process.request(request, timeout, **arguments)

    def _start(self, file: str, threads: int, inputs: str) -> dict[str, Any]:
        ports = edgekit.load(file).inputs
        with tempfile.TemporaryDirectory() as folder, np.load(inputs) as arrays:
            raw = Path(folder) / "inputs"
            raw.write_bytes(b"".join(quantized(port, arrays[port.name]).tobytes() for port in ports))
            self._process = Answering(self.name, [str(self._program), file, str(threads), str(raw)])
            facts = self._process.request("start")
        return {**facts, "version": edgekit.__version__, "library_bytes": self._program.stat().st_size}

    def close(self) -> None:
        """Ends the program."""
        if self._process is not None:
            self._process.close()
