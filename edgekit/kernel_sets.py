# SPDX-License-Identifier: Apache-2.0
"""Every kernel set there is, from csrc/kernels/sets.toml; `runtime.kernels` says which of them are here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from edgekit.building import targets
from edgekit.sources import source_root


@dataclass(frozen=True)
class KernelSet:
    """One set of kernels.

    Attributes:
        after: the set that it falls back to where it has no kernel; None for `scalar`.
        archs: processor architectures that have it, as `targets/` names them; `any` for all.
    """

    name: str
    after: str | None
    archs: tuple[str, ...]


@cache
def kernel_sets() -> dict[str, KernelSet]:
    """All sets by name, slowest first within an architecture."""
    return {
        name: KernelSet(name, entry.get("after"), tuple(key for key, value in entry.items() if isinstance(value, dict)))
        for name, entry in targets.kernel_sets(source_root()).items()
    }


def ladder(name: str) -> list[str]:
    """The set and all that it falls back to: `avx2`, `sse41`, `scalar`.

    Raises:
        KeyError: there is no such set.
    """
    after = kernel_sets()[name].after
    return [name, *(ladder(after) if after else [])]
