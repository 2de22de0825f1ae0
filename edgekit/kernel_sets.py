# SPDX-License-Identifier: Apache-2.0
"""Every kernel set there is, from csrc/kernels/sets.toml; `runtime.kernels` says which of them are here."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache

from edgekit.sources import source_root

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


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
    text = (source_root() / "csrc" / "kernels" / "sets.toml").read_text(encoding="utf-8")
    return {
        name: KernelSet(name, entry.get("after"), tuple(key for key, value in entry.items() if isinstance(value, dict)))
        for name, entry in tomllib.loads(text).items()
    }


def ladder(name: str) -> list[str]:
    """The set and all that it falls back to: `avx2`, `sse41`, `scalar`.

    Raises:
        KeyError: there is no such set.
    """
    after = kernel_sets()[name].after
    return [name, *(ladder(after) if after else [])]
