# SPDX-License-Identifier: Apache-2.0
"""The C runtime, once per kernel set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from edgekit.errors import EdgekitError
from edgekit.verify.backends.base import Arrays, Backend, Observation, Sample, Subject

DEFAULT_THREADS = (2,)
"""With which numbers of threads models are run beside one."""


class Runtime(Backend):
    """Every tensor through the per-operator callback, and the outputs of the paths without it, as a user's program
    takes them: with one thread and with each number in `threads`."""

    def __init__(self, subject: Subject, kernels: str, threads: Sequence[int] = DEFAULT_THREADS) -> None:
        self.name = f"c-{kernels}"
        self._subject = subject
        self._kernels = kernels
        self._paths = {"bound": 1, **{f"{count} threads": count for count in threads if count > 1}}

    def available(self) -> str | None:
        if self._subject.path is None:
            return "the C runtime needs the model's file"
        try:
            from edgekit.runtime import kernels
        except EdgekitError:
            return "the C runtime is not built: pip install . in the checkout"
        if self._kernels not in kernels.built():
            return "this build of the runtime does not contain it"
        return None if self._kernels in kernels.available() else "this processor does not have it"

    def run(self, samples: Iterable[Sample]) -> Iterator[Observation]:
        from edgekit.runtime.model import Model

        model = Model(str(self._subject.path))
        names = list(self._subject.program.tensors)
        for sample in samples:
            outputs, traced = model.trace(sample, kernels=self._kernels)
            tensors = {names[index]: values for index, values in traced.items()}
            paths = {"traced": outputs}
            for label, threads in self._paths.items():
                paths[label] = model.run(sample, kernels=self._kernels, threads=threads)
            yield Observation(self._shaped(tensors), {label: self._shaped(o) for label, o in paths.items()})

    def _shaped(self, arrays: Arrays) -> Arrays:
        program = self._subject.program
        return {name: np.asarray(a).reshape(program.tensors[name].shape) for name, a in arrays.items()}
