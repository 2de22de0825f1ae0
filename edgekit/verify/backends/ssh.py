# SPDX-License-Identifier: Apache-2.0
"""The cross-built C runtime on a remote board, once per kernel set of its processor.

What travels is bounded: of each tensor its SHA-256, and the tensors themselves only of a sample where one differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from edgekit.remote import Board
from edgekit.serving import Show
from edgekit.verify.backends import served
from edgekit.verify.backends.base import Arrays, Backend, Observation, Sample, Subject


class Ssh(Backend):
    """Digests of every tensor of a run that is observed, and the outputs of one that is not, on two threads with
    weights in the kernels' own order."""

    def __init__(self, subject: Subject, board: Board, kernels: str) -> None:
        self.name = f"{board.name}-{kernels}"
        self._subject = subject
        self._board = board
        self._kernels = kernels

    def available(self) -> str | None:
        return "the C runtime needs the model's file" if self._subject.path is None else None

    def run(self, samples: Iterable[Sample]) -> Iterator[Observation]:
        assert self._subject.path is not None
        program = self._subject.program
        with self._board.serve(self.name) as client:
            client.load_file(program, self._board.put(self._subject.path))
            kernels = served.only(self.name, self._board.capabilities, self._kernels)
            observed, free = client.prepare(kernels), client.prepare(kernels, threads=2, repack=True)
            for sample in samples:

                def values(sample: Sample = sample) -> Arrays:
                    return served.tensors(program, client.run(observed, sample, Show.VALUES))

                traced, alone = client.run(observed, sample, Show.DIGESTS), client.run(free, sample)
                paths = {"traced": traced.arrays(program), "2 threads": alone.arrays(program)}
                yield Observation({}, paths, served.quantized(program, traced), values)


def board_backends(subject: Subject, board: Board) -> list[Ssh]:
    """One backend for each kernel set that the board's processor and its runtime have."""
    return [Ssh(subject, board, kernels) for kernels in board.capabilities.kernel_sets]
