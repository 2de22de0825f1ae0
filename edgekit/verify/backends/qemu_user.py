# SPDX-License-Identifier: Apache-2.0
"""The cross-built C runtime under QEMU's user-mode emulation, as the processor that targets/ names for a kernel set.

That processor has nothing newer than the set (`neon_i8mm` excepted: QEMU has only its `max`), so an instruction from
beyond it ends the run and is reported.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from edgekit.building.cache import cached_build
from edgekit.building.targets import Target, TargetError, emulator_install, read_targets
from edgekit.errors import CheckError
from edgekit.kernel_sets import ladder
from edgekit.program import tensor_bytes
from edgekit.sources import source_root
from edgekit.verify.backends.base import Arrays, Backend, Observation, Sample, Subject, as_array

BATCH_BYTES = 1 << 25
"""Of all tensors that one run of the emulator shows."""
BATCH_SAMPLES = 32
"""Samples that a run takes at most."""


class QemuUser(Backend):
    """Every tensor through the per-operator callback, and the outputs of a run without it on two threads, whose
    kernels the runtime chooses by itself."""

    def __init__(self, subject: Subject, target: Target, kernels: str) -> None:
        self.name = f"qemu-{target.name}" + ("" if kernels == "scalar" else f"-{kernels}")
        self._subject = subject
        self._program = subject.program
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
        program = cached_build(self._target, self._target.toolchain(), "runner") / "edgekit-run"
        command = [self._target.emulator[0], "-cpu", self._target.verify[self._kernels], str(program)]
        stream = iter(samples)
        while batch := list(islice(stream, self._batch_samples())):
            yield from self._run_batch(command, batch)

    def _batch_samples(self) -> int:
        size = sum(tensor.size for tensor in self._program.tensors.values())
        return max(1, min(BATCH_SAMPLES, BATCH_BYTES // max(size, 1)))

    def _run_batch(self, command: list[str], batch: list[Sample]) -> list[Observation]:
        """One run for each way in which the samples hold their inputs: as floats, as raw data."""
        found: dict[int, Observation] = {}
        for kind in dict.fromkeys(_kind(sample) for sample in batch):
            numbers = [i for i, sample in enumerate(batch) if _kind(sample) == kind]
            observations = self._run_alike(command, [batch[i] for i in numbers])
            found.update(zip(numbers, observations, strict=True))
        return [found[i] for i in range(len(batch))]

    def _run_alike(self, command: list[str], batch: list[Sample]) -> list[Observation]:
        with tempfile.TemporaryDirectory(prefix="edgekit-") as work:
            folder = Path(work)
            arguments = [*command, str(self._subject.path)]
            for i, name in enumerate(self._program.inputs):
                np.save(folder / f"{i}.npy", np.stack([np.ascontiguousarray(sample[name]) for sample in batch]))
                arguments += ["--input", str(folder / f"{i}.npy")]
            traced, free, tensors = (folder / name for name in ("traced", "free", "tensors"))
            kernels = ",".join(ladder(self._kernels))
            self._execute([*arguments, "--kernels", kernels, "--output", str(traced), "--tensors", str(tensors)], tensors)
            self._execute([*arguments, "--threads", "2", "--output", str(free)])
            shown = self._tensors(tensors.read_bytes(), len(batch))
            outputs = [self._outputs(path.read_bytes(), len(batch)) for path in (traced, free)]
        return [Observation(t, {"traced": a, "2 threads": b}) for t, a, b in zip(shown, *outputs, strict=True)]

    def _execute(self, command: list[str], tensors: Path | None = None) -> None:
        """Runs the emulator.

        Raises:
            CheckError: the runtime refuses the model or dies; the message names the operator where that is known.
        """
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode:
            message = done.stderr.strip() or f"ended with {done.returncode}"
            raise CheckError(f"{self.name}: {self._where(tensors)}{message}")

    def _where(self, tensors: Path | None) -> str:
        """The operator behind the last one whose result is known."""
        if tensors is None or not tensors.exists():
            return ""
        count = sum(1 for _ in _records(tensors.read_bytes()))
        op = self._program.ops[count % len(self._program.ops)]
        return f"in {op.opcode.name} '{op.name}': "

    def _tensors(self, data: bytes, count: int) -> list[Arrays]:
        """The 8-bit tensors of each sample."""
        names = list(self._program.tensors)
        quantized = {tensor.name: tensor.shape for tensor in self._program.quantized()}
        records = list(_records(data))
        each = len(self._program.ops)
        if len(records) != each * count:
            raise CheckError(f"{self.name}: shows {len(records)} results of {each} operators on {count} samples")
        samples = []
        for first in range(0, len(records), each):
            shown = {names[index]: content for index, content in records[first : first + each]}
            samples.append(
                {
                    name: np.frombuffer(content, np.int8).reshape(quantized[name])
                    for name, content in shown.items()
                    if name in quantized
                }
            )
        return samples

    def _outputs(self, data: bytes, count: int) -> list[Arrays]:
        """The outputs of each sample, which follow each other."""
        samples, at = [], 0
        for _ in range(count):
            outputs: Arrays = {}
            for name in self._program.outputs:
                tensor = self._program.tensors[name]
                outputs[name] = as_array(tensor, data, at)
                at += tensor_bytes(tensor)
            samples.append(outputs)
        return samples


def user_backends(subject: Subject) -> list[QemuUser]:
    """One backend for each kernel set that a target of a system with processes is verified with."""
    targets = [target for target in read_targets(source_root()) if target.system == "linux"]
    return [QemuUser(subject, target, kernels) for target in targets for kernels in target.verify]


def _kind(sample: Sample) -> tuple[str, ...]:
    return tuple(array.dtype.str for array in sample.values())


def _records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The tensors of edgekit-run's --tensors: index and content; one that is cut off is left out."""
    at = 0
    while at + 8 <= len(data):
        index, size = struct.unpack_from("<II", data, at)
        if at + 8 + size > len(data):
            return
        yield index, data[at + 8 : at + 8 + size]
        at += 8 + size
