# SPDX-License-Identifier: Apache-2.0
"""Every kernel set and kernel there is, from csrc/kernels/; `runtime.kernels` says which sets are here."""

from __future__ import annotations

import re
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


@dataclass(frozen=True)
class ListedKernel:
    """A line of csrc/kernels/kernels.def.

    Attributes:
        kind, set: in lower case; `name` is the function's, without its prefix.
        tile: rows and depth of the tiles in which it takes its weights; (0, 0) where they are DENSE or none. A
            negative depth stands for PAIRED weights.
    """

    kind: str
    set: str
    name: str
    tile: tuple[int, int]


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


@cache
def listed_kernels() -> tuple[ListedKernel, ...]:
    """All kernels, whatever the processor: best sets first, and within a set the more special ones."""
    text = (source_root() / "csrc" / "kernels" / "kernels.def").read_text(encoding="utf-8")
    lines = re.findall(r"^EK_KERNEL\((\w+), (\w+), (\w+), \w+, \w+, (\d+), (-?\d+)\)", text, re.M)
    return tuple(ListedKernel(kind.lower(), its_set.lower(), name, (int(n), int(k))) for kind, its_set, name, n, k in lines)
