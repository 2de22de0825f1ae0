# SPDX-License-Identifier: Apache-2.0
"""What every backend is, and what it is given."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgekit.format.schema import Dtype
from edgekit.program import Program, Tensor

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
    """

    tensors: Arrays = field(default_factory=dict)
    outputs: dict[str, Arrays] = field(default_factory=dict)


class Backend(ABC):
    """Something that executes the model. `name` is unique: `reference`, `onnxruntime`, `c-avx2`."""

    name: str

    @abstractmethod
    def available(self) -> str | None:
        """None if it can run here, else the reason why not, for the user."""

    @abstractmethod
    def run(self, samples: Iterable[Sample]) -> Iterator[Observation]:
        """One observation per sample, in order, reading no further ahead than it must."""


def as_array(tensor: Tensor, data: bytes, offset: int = 0) -> np.ndarray:
    """The tensor whose elements, float32 or int8, begin at byte `offset` of `data`."""
    dtype = np.float32 if tensor.dtype == Dtype.F32 else np.int8
    return np.frombuffer(data, dtype, tensor.size, offset).reshape(tensor.shape)
