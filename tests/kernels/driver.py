# SPDX-License-Identifier: Apache-2.0
"""The host's side of driver.c: sends cases to kernels that another machine runs, and reads what they wrote."""

from __future__ import annotations

import struct
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from edgekit.building.cache import cached_build
from edgekit.building.targets import Target, read_targets
from kernels.fields import NO_BUFFER, Fields
from kernels.harness import CSRC, ROOT, Case, Machine, compare, kernel_sets

FIELDS = Fields(CSRC / "kernels" / "kernel.h")
STRUCTS = list(FIELDS.structs)
DONE, UNSUPPORTED, NO_MEMORY, BESIDE, CHANGED = range(5)
BATCH_VALUES = 250_000
"""Output values that one run of the driver computes at least."""
TIMEOUT = 1800
"""Seconds after which a run of the driver has hung."""


def emulated_targets() -> list[Target]:
    """Targets whose kernels `edgekit verify` runs under user-mode emulation here."""
    return [target for target in read_targets(ROOT) if target.verify and target.system == "linux"]


def build_driver(target: Target) -> Path:
    """The driver for a target, built with its first toolchain that is here."""
    folder = Path(__file__).parent
    sources = [folder / name for name in ("driver.c", "driver.h", "driver_posix.c", "fields.py")]
    return cached_build(target, target.toolchain(), "kernel_driver", sources) / "kernel-driver"


@dataclass(frozen=True)
class RemoteKernel:
    """One kernel in the driver's list."""

    number: int
    name: str
    set: str
    tile_n: int
    tile_k: int
    x_offset: int

    def __str__(self) -> str:
        return self.name


def buffers_of(case: Case, kernel: RemoteKernel) -> tuple[list[tuple[np.ndarray, int]], dict[str, int]]:
    """The buffers of a case as (content, bit of its placement), the output and the inputs last; and which of
    them the struct's pointers are."""
    arrays = case.arrays_for(kernel.x_offset)
    buffers = [(array, 4 + i) for i, array in enumerate(arrays.values())]
    pointers = {name: i for i, name in enumerate(arrays)}
    if case.weights is not None:
        pointers["weights.data"] = len(buffers)
        buffers.append((case.weights.packed(kernel.tile_n, kernel.tile_k), 3))
    if case.in_place is None:
        buffers.append((case.output, 2))
    return buffers + [(x, i) for i, x in enumerate(case.inputs)], pointers


def encode(case: Case, kernel: RemoteKernel) -> bytes:
    """One request."""
    buffers, pointers = buffers_of(case, kernel)
    fields = dict(case.fields)
    if case.weights is not None:
        fields["weights"] = case.weights.fields(kernel.tile_n, kernel.tile_k)
    parts = [
        struct.pack("<II", kernel.number, STRUCTS.index(case.struct)),
        FIELDS.words(case.struct, fields, pointers),
        struct.pack("<III", len(case.inputs), NO_BUFFER if case.in_place is None else case.in_place, case.placement & 0x7F),
        struct.pack("<6iI", *case.range, len(buffers)),
    ]
    for array, bit in buffers:
        content = np.ascontiguousarray(array)
        parts += [struct.pack("<III", content.nbytes, content.itemsize, case.placement >> bit & 1), content.tobytes()]
    body = b"".join(parts)
    return struct.pack("<I", len(body)) + body


class Driver:
    """Runs of the driver; each takes a batch of cases.

    Args:
        command: what executes it here, emulator included; it reads standard input and writes standard output.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        with tempfile.TemporaryFile() as replies:
            self._execute(b"", replies)
            self.kernels = {kernel.name: kernel for kernel in _kernel_list(replies)}

    def run(self, kernel: RemoteKernel, cases: Sequence[Case]) -> list[np.ndarray | None]:
        """The output buffers after the calls; None where the kernel does not support a case or it does not fit
        the driver's memory.

        Raises:
            AssertionError: the driver died, or a kernel wrote where it must not.
        """
        with tempfile.TemporaryFile() as replies:
            fits = [case.weights is None or case.weights.fit(kernel.tile_k) for case in cases]
            ended = self._execute(b"".join(encode(c, kernel) for c, fit in zip(cases, fits, strict=True) if fit), replies)
            _kernel_list(replies)
            return [_reply(replies, c, kernel, ended) if fit else None for c, fit in zip(cases, fits, strict=True)]

    def _execute(self, requests: bytes, replies: IO[bytes]) -> str:
        """Fills `replies`; how the driver ended."""
        with tempfile.TemporaryFile() as stdin:
            stdin.write(requests)
            stdin.seek(0)
            done = subprocess.run(
                self._command, stdin=stdin, stdout=replies, stderr=subprocess.PIPE, check=False, timeout=TIMEOUT
            )
        replies.seek(0)
        return f"{' '.join(self._command)} ended with {done.returncode}: {done.stderr.decode(errors='replace').strip()}"


def _words(stream: IO[bytes], count: int) -> tuple[int, ...] | None:
    """None at the end of the stream."""
    data = stream.read(4 * count)
    return struct.unpack(f"<{count}I", data) if len(data) == 4 * count else None


def _kernel_list(stream: IO[bytes]) -> list[RemoteKernel]:
    head = _words(stream, 1)
    assert head is not None, "the driver sends no list of kernels"
    kernels = []
    for number in range(head[0]):
        words = stream.read(24)
        assert len(words) == 24
        its_set, _, *tile_and_offset, length = struct.unpack("<II3iI", words)
        kernels.append(RemoteKernel(number, stream.read(length).decode(), kernel_sets()[its_set], *tile_and_offset))
    return kernels


def _reply(stream: IO[bytes], case: Case, kernel: RemoteKernel, ended: str) -> np.ndarray | None:
    words = _words(stream, 1)
    assert words is not None, f"{kernel}: {ended} in {case.describe()}"
    if words[0] in (UNSUPPORTED, NO_MEMORY):
        return None
    detail = _words(stream, 1)
    assert detail is not None, f"{kernel}: {ended} in {case.describe()}"
    assert words[0] != BESIDE, f"{kernel}: wrote beside buffer {detail[0]}: {case.describe()}"
    assert words[0] != CHANGED, f"{kernel}: changed buffer {detail[0]}: {case.describe()}"
    assert words[0] == DONE
    return np.frombuffer(stream.read(detail[0]), case.output.dtype)


def compare_with_scalar(
    driver: Driver, kernel: RemoteKernel, scalar: Any, make: Callable[[int], Case], seed: int, values: int
) -> tuple[int, int]:
    """Holds a remote kernel to the host's scalar one on at least `values` outputs of the cases `make(seed)` and on.

    Returns:
        Values and cases.
    """
    machine, done, first = Machine(), 0, seed
    while done < values:
        batch: list[Case] = []
        while sum(case.values for case in batch) < min(BATCH_VALUES, values - done):
            batch.append(make(seed + len(batch)))
        for offset, (case, got) in enumerate(zip(batch, driver.run(kernel, batch), strict=True)):
            if got is None:
                continue
            want = machine.run(scalar, case)
            assert want is not None
            try:
                compare(kernel, case, got, want)  # type: ignore[arg-type]
            except AssertionError as error:
                raise AssertionError(f"case {seed + offset}: {error}") from None
            done += case.values
        seed += len(batch)
        assert done > 0 or seed - first < 1000, "no case is supported"
    return done, seed - first
