# SPDX-License-Identifier: Apache-2.0
"""What every backend is, and what it is given."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgekit.program import Program

Arrays = dict[str, np.ndarray]
Sample = Arrays
"""One inference's inputs: name -> array as the program declares it (float32, raw 8-bit, or int8)."""


@dataclass(frozen=True)
class Subject:
    """The model under test: its program and, for runtimes that load one, its file."""

    program: Program
    path: Path | None = None


@dataclass
class Observation:
    """What one inference showed.

    Attributes:
        tensors: 8-bit tensors of the graph by the program's names, int8 in the program's layout.
        outputs: the model's outputs, once per path that computed them ("default session", "2 threads").
        digests: SHA-256 of 8-bit tensors that `tensors` does not hold, from a backend that is far away.
        values: asks that backend for the tensors behind the digests; until it goes on to the next sample.
    """

    tensors: Arrays = field(default_factory=dict)
    outputs: dict[str, Arrays] = field(default_factory=dict)
    digests: dict[str, bytes] = field(default_factory=dict)
    values: Callable[[], Arrays] | None = None

    def digest(self, name: str) -> bytes:
        """SHA-256 of a tensor."""
        if name not in self.digests:
            self.digests[name] = hashlib.sha256(np.ascontiguousarray(self.tensors[name]).data).digest()
        return self.digests[name]

    def with_values(self) -> Observation:
        """The same with every tensor in `tensors`."""
        return self if self.values is None else Observation(self.values(), self.outputs)


class Backend(ABC):
    """Something that executes the model. `name` is unique: `reference`, `onnxruntime`, `c-avx2`."""

    name: str

    @abstractmethod
    def available(self) -> str | None:
        """None if it can run here, else the reason why not, for the user."""

    @abstractmethod
    def run(self, samples: Iterable[Sample]) -> Iterator[Observation]:
        """One observation per sample, in order, reading no further ahead than it must."""
