# SPDX-License-Identifier: Apache-2.0
"""Counts and digests what backends show, sample by sample."""

from __future__ import annotations

import hashlib

import numpy as np

from edgekit.errors import CheckError
from edgekit.program import Program
from edgekit.verify.backends.base import Arrays, Observation
from edgekit.verify.report import BackendResult, Difference


class Comparison:
    """One backend against the expected observations."""

    def __init__(self, name: str, program: Program) -> None:
        self.result = BackendResult(name)
        self._program = program
        self._order = [t.name for t in program.quantized()]
        self._writer = {name: f"{op.opcode.name} '{op.name}'" for op in program.ops for name in op.outputs}
        self._shown: set[str] = set()
        self._all = hashlib.sha256()
        self._outputs = hashlib.sha256()

    def add(self, sample: int, seen: Observation, expected: Observation) -> None:
        """Compares one sample.

        Raises:
            CheckError: the backend shows a tensor of another shape or type, or not all outputs.
        """
        tensors = seen.tensors if seen.values is None else self._by_digest(seen, expected)
        for name in (n for n in self._order if n in tensors):
            array = tensors[name]
            self._all.update(np.ascontiguousarray(array).data)
            self._shown.add(name)
            if name in expected.tensors:
                self._compare(sample, self._writer[name], name, array, expected.tensors[name])
        wanted = next(iter(expected.outputs.values()))
        for path, outputs in seen.outputs.items():
            for name in self._program.outputs:
                if name not in outputs:
                    raise CheckError(f"{self.result.name}: {path} shows no output '{name}'")
                self._compare(sample, f"output of {path}", name, outputs[name], wanted[name])
        for name in self._program.outputs:
            self._outputs.update(np.ascontiguousarray(next(iter(seen.outputs.values()))[name]).data)

    def finish(self) -> BackendResult:
        """The result, digests included."""
        self.result.tensors = len(self._shown)
        self.result.digest = self._all.hexdigest()
        self.result.output_digest = self._outputs.hexdigest()
        return self.result

    def _by_digest(self, seen: Observation, expected: Observation) -> Arrays:
        """The tensors of a backend that tells their digests: those of an equal one are as expected, so the others
        alone are asked for.

        Raises:
            CheckError: what it then shows is not what it told the digest of.
        """
        differing = [name for name, digest in seen.digests.items() if digest != expected.digest(name)]
        shown = Observation(seen.values()) if differing and seen.values else Observation()
        for name in differing:
            if shown.digest(name) != seen.digests[name]:
                raise CheckError(
                    f"{self.result.name}: {self._writer[name]}, tensor '{name}': two runs on the same inputs differ; "
                    "the board computes unreliably"
                )
        return {name: (shown if name in differing else expected).tensors[name] for name in seen.digests}

    def _compare(self, sample: int, op: str, name: str, seen: np.ndarray, expected: np.ndarray) -> None:
        if (seen.dtype, seen.shape) != (expected.dtype, expected.shape):
            raise CheckError(
                f"{self.result.name}: tensor '{name}' is {seen.dtype} {list(seen.shape)}, "
                f"expected {expected.dtype} {list(expected.shape)}"
            )
        self.result.values += seen.size
        differs = bits(seen) != bits(expected)
        count = int(np.count_nonzero(differs))
        self.result.mismatches += count
        if count and self.result.first is None:
            index = tuple(int(i) for i in np.unravel_index(int(differs.argmax()), differs.shape))
            self.result.first = Difference(
                sample, op, name, index, seen[index].item(), expected[index].item(), count, seen.size
            )


def bits(array: np.ndarray) -> np.ndarray:
    """The array as integers of its element size: equality of bits, also for NaN and signed zeros."""
    return array if array.dtype == np.int8 else np.ascontiguousarray(array).view(f"u{array.itemsize}")


class Digests:
    """SHA-256 of every tensor and output over all samples."""

    def __init__(self, program: Program) -> None:
        self._tensors = {t.name: hashlib.sha256() for t in program.quantized()}
        self._outputs = {name: hashlib.sha256() for name in program.outputs}

    def add(self, seen: Observation) -> None:
        for name, array in seen.tensors.items():
            self._tensors[name].update(np.ascontiguousarray(array).data)
        for name, array in next(iter(seen.outputs.values())).items():
            self._outputs[name].update(np.ascontiguousarray(array).data)

    @property
    def tensors(self) -> dict[str, str]:
        return {name: sha.hexdigest() for name, sha in self._tensors.items()}

    @property
    def outputs(self) -> dict[str, str]:
        return {name: sha.hexdigest() for name, sha in self._outputs.items()}
