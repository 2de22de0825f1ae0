# SPDX-License-Identifier: Apache-2.0
"""The cross-built C runtime under QEMU's user-mode emulation, as the processor that targets/ names for a kernel set.

That processor has nothing newer than the set (`neon_i8mm` excepted: QEMU has only its `max`), so an instruction from
beyond it ends the run and is reported.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator

from edgekit.building.cache import cached_build
from edgekit.building.targets import Target, TargetError, emulator_install, read_targets
from edgekit.serving import Show
from edgekit.serving.process import serving
from edgekit.sources import source_root
from edgekit.verify.backends import served
from edgekit.verify.backends.base import Backend, Observation, Sample, Subject


class QemuUser(Backend):
    """Every tensor of a run that is observed, and the outputs of one that is not, on two threads, whose kernels the
    runtime chooses by itself."""

    def __init__(self, subject: Subject, target: Target, kernels: str) -> None:
        self.name = f"qemu-{target.name}" + ("" if kernels == "scalar" else f"-{kernels}")
        self._subject = subject
        self._target = target
        self._kernels = kernels

    def available(self) -> str | None:
        if self._subject.path is None:
            return "the C runtime needs the model's file"
        if shutil.which(self._target.emulator[0]) is None:
            return f"{self._target.emulator[0]} is not installed: {emulator_install(self._target.emulator[0])}"
        try:
            self._target.toolchain()
        except TargetError as error:
            return str(error)
        return None

    def run(self, samples: Iterable[Sample]) -> Iterator[Observation]:
        assert self._subject.path is not None
        program = self._subject.program
        runner = cached_build(self._target, self._target.toolchain(), "runner") / "edgekit-run"
        command = [self._target.emulator[0], "-cpu", self._target.verify[self._kernels], str(runner), "--serve"]
        with serving(self.name, command) as client:
            kernels = served.only(self.name, client.hello(), self._kernels)
            client.load(program, self._subject.path.read_bytes())
            observed, free = client.prepare(kernels), client.prepare(threads=2)
            for sample in samples:
                traced, alone = client.run(observed, sample, Show.VALUES), client.run(free, sample)
                paths = {"traced": traced.arrays(program), "2 threads": alone.arrays(program)}
                yield Observation(served.tensors(program, traced), paths)


def user_backends(subject: Subject) -> list[QemuUser]:
    """One backend for each kernel set that a target of a system with processes is verified with."""
    targets = [target for target in read_targets(source_root()) if target.system == "linux"]
    return [QemuUser(subject, target, kernels) for target in targets for kernels in target.verify]
