# SPDX-License-Identifier: Apache-2.0
"""The other end of csrc/firmware/serve.c: the whole runtime on an emulated board, driven by this process."""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from edgekit.building.targets import Target, kernel_files
from edgekit.errors import CheckError
from edgekit.firmware import toolchain
from edgekit.firmware.boards import linker_script
from edgekit.format.schema import Dtype
from edgekit.program import Program, tensor_bytes
from edgekit.sources import source_root

STACK_BYTES = 16384
SILENCE_SECONDS = 300
"""After that long without a byte from the emulator it is taken to hang; the largest layer takes seconds."""

NO_TENSOR = 0xFFFFFFFF
_FORMAT_FLOAT, _FORMAT_RAW, _FORMAT_INT8 = range(3)
_MODEL, _RUN = 1, 2
_EXIT_REASONS = {
    121: "a pipe broke",
    122: "bad request",
    123: "the model does not fit the board's memory",
    125: "the processor met a fault",
}


@dataclass(frozen=True)
class Prepared:
    """What the runtime says of a model on a target.

    Attributes:
        memory_bytes: `ek_memory_needed` with all kernels of the target.
        scratch_bytes: the part of it that is scratch.
        kernels: kernel of every step; empty where a step needs none.
    """

    memory_bytes: int
    scratch_bytes: int
    kernels: list[str]


@dataclass(frozen=True)
class Reply:
    """One inference: tensors by their index in the file, and the outputs of a run that was observed and of one
    that was not; `stack_bytes` is the most that was ever in use."""

    tensors: dict[int, np.ndarray]
    observed: list[bytes]
    unobserved: list[bytes]
    stack_bytes: int


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
    sources += [csrc / "firmware" / name for name in ("start.c", "semihosting.c", "serve.c")]
    script = linker_script(target, STACK_BYTES, heap=True)
    command = [*toolchain.compile_command(target), *(f"-DEK_WITH_{name.upper()}" for name in target.kernels)]
    command += [*toolchain.LINK_FLAGS, f"-I{csrc / 'include'}", f"-I{csrc}"]

    def make(path: Path) -> None:
        linker = path.with_suffix(".ld")
        linker.write_text(script)
        toolchain.run([*command, "-T", str(linker), *map(str, sources), "-o", str(path)])

    headers = sorted([*csrc.rglob("*.h"), *csrc.rglob("*.def")])
    parts = [path.read_bytes() for path in [*sources, *headers]]
    parts += [" ".join(command).encode(), script.encode(), toolchain.version(command[0]).encode()]
    return toolchain.cached(f"serve-{target.name}.elf", parts, make)


class Server:
    """The image in its emulator; a context manager."""

    def __init__(self, target: Target) -> None:
        """Starts the emulator.

        Raises:
            EdgekitError: the image cannot be linked.
        """
        self._name = f"qemu-{target.name}"
        self._program: Program | None = None
        self._stack = ExitStack()
        try:
            self._start(target)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the emulator and removes its files."""
        self._stack.close()

    def load(self, program: Program, model: bytes) -> Prepared:
        """Prepares a model, given as its file and what that holds; the one before is gone.

        Raises:
            CheckError: the runtime refuses the model, or the image ends or hangs.
        """
        self._program = None
        self._write(_number(_MODEL) + _number(len(model)) + model)
        status, offset = self._read_number(), self._read_number()
        if status:
            raise CheckError(f"{self._name}: the runtime refuses the model: status {status}, file offset {offset}")
        self._program = program
        memory, scratch, steps = (self._read_number() for _ in range(3))
        return Prepared(memory, scratch, [self._read(self._read_number()).decode() for _ in range(steps)])

    def infer(self, sample: Mapping[str, np.ndarray]) -> Reply:
        """Runs one sample: an array per input as the program declares it, or raw 8-bit data.

        Raises:
            CheckError: the image ends or hangs.
        """
        assert self._program is not None, "no model is loaded"
        self._write(_number(_RUN))
        for name in self._program.inputs:
            array = np.ascontiguousarray(sample[name])
            self._write(_number(input_format(self._program, name, array)) + array.tobytes())
        tensors = {}
        while (index := self._read_number()) != NO_TENSOR:
            tensors[index] = np.frombuffer(self._read(self._read_number()), np.int8)
        observed, unobserved = self._read_outputs(self._program), self._read_outputs(self._program)
        return Reply(tensors, observed, unobserved, self._read_number())

    def _start(self, target: Target) -> None:
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="edgekit-")))
        pipes = []
        for name in ("requests", "replies"):
            os.mkfifo(folder / name)
            # Both ends: opening then never waits for the emulator, which may fail to come.
            pipe = os.open(folder / name, os.O_RDWR | os.O_NONBLOCK)
            self._stack.callback(os.close, pipe)
            pipes.append(pipe)
        self._requests, self._replies = pipes
        self._log = self._stack.enter_context((folder / "log").open("w+b"))
        command = [*target.emulator, str(image(target))]
        self._process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT
        )
        self._stack.callback(self._end)

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()

    def _read_outputs(self, program: Program) -> list[bytes]:
        return [self._read(tensor_bytes(program.tensors[name])) for name in program.outputs]

    def _read_number(self) -> int:
        return int.from_bytes(self._read(4), "little")

    def _read(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            self._wait(self._replies, write=False)
            data += os.read(self._replies, count - len(data))
        return bytes(data)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            self._wait(self._requests, write=True)
            view = view[os.write(self._requests, view[: select.PIPE_BUF]) :]

    def _wait(self, pipe: int, write: bool) -> None:
        """Until the pipe is ready.

        Raises:
            CheckError: the emulator ends, or is silent for too long.
        """
        silent_since = time.monotonic()
        while True:
            ended = self._process.poll() is not None
            ready = select.select([] if write else [pipe], [pipe] if write else [], [], 0 if ended else 0.1)
            if ready[0] or (ready[1] and not ended):
                return
            if ended:
                raise CheckError(f"{self._name}: ended early: {self._why()}")
            if time.monotonic() - silent_since > SILENCE_SECONDS:
                raise CheckError(f"{self._name}: no answer for {SILENCE_SECONDS} seconds")

    def _why(self) -> str:
        """From the exit code and what the emulator printed."""
        code = self._process.returncode
        self._log.seek(0)
        printed = self._log.read().decode(errors="replace").strip().splitlines()
        return "; ".join([_EXIT_REASONS.get(code, f"exit code {code}"), *printed[:1]])


def input_format(program: Program, name: str, array: np.ndarray) -> int:
    """The number of the ek_format in which an input array is bound."""
    if array.dtype == np.float32:
        return _FORMAT_FLOAT
    return _FORMAT_RAW if program.tensors[name].dtype == Dtype.F32 else _FORMAT_INT8


def _number(value: int) -> bytes:
    return value.to_bytes(4, "little")
