# SPDX-License-Identifier: Apache-2.0
"""csrc/firmware/serve.c on an emulated board, driven by this process."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from edgekit.building.cache import cached
from edgekit.building.targets import Target, kernel_files
from edgekit.closing import Closing
from edgekit.firmware import toolchain
from edgekit.firmware.boards import linker_script
from edgekit.program import Program
from edgekit.serving import Client, Pipes, Prepared, Reply, Show
from edgekit.sources import source_root

STACK_BYTES = 16384

_FAULT = {125: "the processor met a fault"}
"""The exit code of csrc/firmware/start.c."""


def image(target: Target) -> Path:
    """The program, linked for the target's board; from the cache where nothing has changed.

    Raises:
        EdgekitError: the compiler fails.
    """
    csrc = source_root() / "csrc"
    sources = [*sorted(csrc.glob("core/*.c")), csrc / "kernels" / "kernel_list.c"]
    for name in target.kernels:
        files, flags = kernel_files(source_root(), name, target.arch)
        assert not flags, f"{name} has flags of its own, which are those of the target on {target.arch}"
        sources += files
    sources += [csrc / "firmware" / name for name in ("start.c", "semihosting.c", "serve.c", "sha256.c")]
    sources.append(csrc / "serve" / "serve.c")
    script = linker_script(target, STACK_BYTES, heap=True)
    command = [*toolchain.compile_command(target), *(f"-DEK_WITH_{name.upper()}" for name in target.kernels)]
    command += [*toolchain.LINK_FLAGS, f"-I{csrc / 'include'}", f"-I{csrc}"]

    def make(folder: Path) -> None:
        linker = folder / "board.ld"
        linker.write_text(script)
        toolchain.run([*command, "-T", str(linker), *map(str, sources), "-o", str(folder / "serve.elf")])

    headers = sorted([*csrc.rglob("*.h"), *csrc.rglob("*.def")])
    parts = [path.read_bytes() for path in [*sources, *headers]]
    parts += [" ".join(command).encode(), script.encode(), toolchain.version(command[0]).encode()]
    return cached(f"serve-{target.name}", parts, make) / "serve.elf"


class Server(Closing):
    """The image in its emulator; a context manager."""

    def __init__(self, target: Target) -> None:
        """Starts the emulator.

        Raises:
            EdgekitError: the image cannot be linked.
        """
        self._stack = ExitStack()
        try:
            self._client = self._start(target)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends the emulator and removes its files."""
        self._stack.close()

    def load(self, program: Program, model: bytes) -> Prepared:
        """Prepares a model, given as its file and what that holds; the one before is gone.

        Raises:
            CheckError: the runtime refuses the model, or the image ends or hangs.
        """
        self._client.load(program, model)
        self._prepared = self._client.prepare()
        return self._prepared

    def infer(self, sample: Mapping[str, np.ndarray], show: Show = Show.OUTPUTS) -> Reply:
        """Runs one sample: an array per input as the program declares it, or raw 8-bit data.

        Raises:
            CheckError: the image ends or hangs.
        """
        return self._client.run(self._prepared, sample, show)

    def _start(self, target: Target) -> Client:
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="edgekit-")))
        ends = []
        for name in ("requests", "replies"):
            os.mkfifo(folder / name)
            # Both ends: opening then never waits for the emulator, which may fail to come.
            ends.append(os.open(folder / name, os.O_RDWR | os.O_NONBLOCK))
            self._stack.callback(os.close, ends[-1])
        log = self._stack.enter_context((folder / "log").open("w+b"))
        command = [*target.emulator, str(image(target))]
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        requests, replies = ends
        pipes = Pipes(f"qemu-{target.name}", process, requests, replies, log, _FAULT)
        self._stack.callback(pipes.close)
        return Client(pipes)
