# SPDX-License-Identifier: Apache-2.0
"""The NumPy reference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from edgekit.reference.executor import run
from edgekit.verify.backends.base import Backend, Observation, Sample, Subject


class Reference(Backend):
    name = "reference"

    def __init__(self, subject: Subject) -> None:
        self._program = subject.program

    def available(self) -> str | None:
        return None

    def run(self, samples: Iterable[Sample]) -> Iterator[Observation]:
        quantized = [t.name for t in self._program.quantized()]
        for sample in samples:
            outputs, tensors = run(self._program, sample, taps=True)
            yield Observation({name: tensors[name] for name in quantized}, {"run": outputs})
