# SPDX-License-Identifier: Apache-2.0
"""The C runtime on emulated microcontrollers: every tensor, and the outputs of a run that nobody observed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache

from edgekit.building.targets import Target, read_target
from edgekit.firmware import toolchain
from edgekit.firmware.boards import board_names, heap_bytes
from edgekit.program import Program, tensor_bytes
from edgekit.serving import Show
from edgekit.sources import source_root
from edgekit.verify.backends import served
from edgekit.verify.backends.base import Backend, Observation, Sample, Subject

IMAGE_BYTES = 256 * 1024
"""Room for what is not the model's own: the program's data and stack, prepared operators, scratch."""


@cache
def boards() -> tuple[Target, ...]:
    """Targets that are microcontrollers, by name."""
    return tuple(read_target(source_root(), name) for name in board_names())


class QemuSystem(Backend):
    """One bare-metal program per target, with all kernels that the target has."""

    def __init__(self, subject: Subject, target: Target) -> None:
        self.name = f"qemu-{target.name}"
        self._subject = subject
        self._target = target

    def available(self) -> str | None:
        if self._subject.path is None:
            return "the C runtime needs the model's file"
        reason = toolchain.missing(self._target) or toolchain.missing_emulator(self._target)
        if reason is not None:
            return reason
        needed = IMAGE_BYTES + self._subject.path.stat().st_size + _memory(self._subject.program)
        if needed > heap_bytes(self._target):
            return f"the emulated board has {heap_bytes(self._target):,} bytes of memory; the model needs {needed:,}"
        return None

    def run(self, samples: Iterable[Sample]) -> Iterator[Observation]:
        from edgekit.firmware.serve import Server

        assert self._subject.path is not None
        program = self._subject.program
        with Server(self._target) as server:
            server.load(program, self._subject.path.read_bytes())
            for sample in samples:
                observed, unobserved = server.infer(sample, Show.VALUES), server.infer(sample)
                paths = {"traced": observed.arrays(program), "bound": unobserved.arrays(program)}
                yield Observation(served.tensors(program, observed), paths)


def _memory(program: Program) -> int:
    """Bytes of the arena, the state, the inputs, and both copies of the outputs."""
    ports = [program.tensors[name] for name in [*program.inputs, *program.outputs, *program.outputs]]
    return program.arena_bytes + sum(tensor_bytes(tensor) for tensor in ports)
