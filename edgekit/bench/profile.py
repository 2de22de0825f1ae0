# SPDX-License-Identifier: Apache-2.0
"""Where the time goes: each operator's share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.commands.inspect import inspect
from edgekit.runtime.model import Model, OpTime

_WHY = {True: "tuned", False: "default", None: None}


@dataclass(frozen=True)
class OperatorTime:
    """One operator.

    Attributes:
        name: the ONNX node's.
        why: `tuned` where the file asked for the kernel, `default` where the runtime chose it; None where that is not known.
        share: of the whole.
        gmacs_per_s: None without multiply-accumulates.
    """

    name: str
    op: str
    kernel: str
    why: str | None
    median_us: float
    share: float
    gmacs_per_s: float | None


def profile_ops(model: Path, *, kernels: str = "auto", threads: int = 1) -> list[OperatorTime]:
    """The operators of a `.ekm`, timed one by one; the clock itself costs each some 50 ns."""
    return table(model, Model(model).profile(kernels=kernels, threads=threads))


def table(model: Path, rows: Sequence[OpTime]) -> list[OperatorTime]:
    """What was measured of each operator, with what the file says of it."""
    total = sum(row.nanoseconds for row in rows) or 1
    ops = inspect(model)["ops"]
    return [
        OperatorTime(
            name=ops[row.op]["name"],
            op=row.opcode.name.lower(),
            kernel=row.kernel,
            why=_WHY[row.chosen],
            median_us=row.nanoseconds / 1e3,
            share=row.nanoseconds / total,
            gmacs_per_s=ops[row.op]["macs"] / max(row.nanoseconds, 1) if ops[row.op]["macs"] else None,
        )
        for row in rows
    ]
