# SPDX-License-Identifier: Apache-2.0
"""What `verify` found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Difference:
    """The first value of a backend that is not the expected one.

    Attributes:
        sample: index of the inference's first sample.
        op: operator that wrote the tensor, opcode and the ONNX node's name; the path for an output.
        tensor: the program's name.
        index: of the value in the program's layout; the last number is the channel.
        value, expected: this backend's and the other side's; int8, or float32 for an output.
        count, size: how many values of this tensor differ in this sample, of how many.
    """

    sample: int
    op: str
    tensor: str
    index: tuple[int, ...]
    value: float
    expected: float
    count: int
    size: int

    def __str__(self) -> str:
        channel = f" (channel {self.index[-1]})" if self.index else ""
        return (
            f"sample {self.sample}, {self.op}, tensor '{self.tensor}' {list(self.index)}{channel}: "
            f"{self.value} instead of {self.expected}; {self.count} of {self.size} values differ"
        )


@dataclass
class BackendResult:
    """One backend's comparison.

    Attributes:
        values: how many were compared: 8-bit tensors and outputs of all samples.
        mismatches: how many of them differ.
        tensors: number of 8-bit tensors that it showed.
        digest: SHA-256 of all shown int8 values, in the program's order, sample after sample.
        output_digest: SHA-256 of the outputs as declared, likewise; equal for every backend that is
            right, also where one shows fewer tensors.
        first: the first difference, by sample, then by the program's order.
        disagreements: digests that are not the certificate's, where one is checked.
    """

    name: str
    values: int = 0
    mismatches: int = 0
    tensors: int = 0
    digest: str = ""
    output_digest: str = ""
    first: Difference | None = None
    disagreements: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of this backend."""
        out: dict[str, Any] = {
            "name": self.name,
            "values": self.values,
            "mismatches": self.mismatches,
            "tensors": self.tensors,
            "digest": self.digest,
            "output_digest": self.output_digest,
        }
        if self.first is not None:
            out["first_difference"] = str(self.first)
        if self.disagreements:
            out["not_as_certified"] = self.disagreements
        return out


@dataclass
class Report:
    """The result of `verify`.

    Attributes:
        samples: how many every backend ran, in groups of the model's batch.
        expected: the backend that the others were held to.
        inputs: how to have the same inputs again, see `samples.Samples.describe`.
        skipped: backend -> why it did not run.
        tensor_digests: tensor -> SHA-256 of its int8 values over all samples, as expected.
        output_digests: output -> likewise of the output as declared.
        model: name, size and SHA-256 of the file; without a file the name alone.
    """

    samples: int
    expected: str
    inputs: dict[str, Any]
    backends: list[BackendResult]
    skipped: dict[str, str]
    tensor_digests: dict[str, str]
    output_digests: dict[str, str]
    model: dict[str, Any]

    @property
    def ok(self) -> bool:
        """Whether every backend gave the same bits, and those of the certificate where one was checked."""
        return not any(b.mismatches or b.disagreements for b in self.backends)

    @property
    def mismatches(self) -> int:
        """All differing values."""
        return sum(b.mismatches for b in self.backends)

    def problems(self) -> list[str]:
        """One line per backend that does not agree."""
        lines = [
            f"{b.name} differs from {self.expected}: {b.first}" for b in self.backends if b.first is not None
        ]
        return lines + [f"{b.name}: {text}" for b in self.backends for text in b.disagreements]

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of `edgekit verify --json`."""
        return {
            "model": self.model,
            "samples": self.samples,
            "inputs": self.inputs,
            "expected": self.expected,
            "ok": self.ok,
            "backends": [b.as_dict() for b in self.backends],
            "skipped": [{"name": name, "why": why} for name, why in self.skipped.items()],
        }
