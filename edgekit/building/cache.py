# SPDX-License-Identifier: Apache-2.0
"""Builds that are kept: made once for one state of the sources and one compiler.

They lie in EDGEKIT_CACHE, or `edgekit` in XDG_CACHE_HOME (by default ~/.cache), and may be deleted at any time.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path

from edgekit.building.scons import scons
from edgekit.building.targets import Target, Toolchain
from edgekit.sources import source_root

KEPT = 6
"""Builds of one target, toolchain and goal that stay; with another, the oldest goes."""


def cache_folder() -> Path:
    """Where builds are kept."""
    if given := os.environ.get("EDGEKIT_CACHE"):
        return Path(given).resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgekit"


def cached_build(target: Target, toolchain: Toolchain, goal: str, sources: Iterable[Path] = ()) -> Path:
    """The folder that SCons's `goal` fills for a target.

    Args:
        sources: files outside csrc/ that the goal is made of.

    Raises:
        EdgekitError: the build fails.
        OSError: the cache cannot be written.
    """
    stem = f"{goal}-{target.name}-{toolchain.name}"
    folder = cache_folder() / f"{stem}-{_digest(target, toolchain, sources)[:16]}"
    if folder.is_dir():
        folder.touch()
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _lock(folder.parent / ".lock"):
        if not folder.is_dir():
            _build(target, toolchain, goal, folder)
            _drop_oldest(stem)
    return folder


def _build(target: Target, toolchain: Toolchain, goal: str, folder: Path) -> None:
    """Fills `folder` at once, so that it is never seen half full."""
    with tempfile.TemporaryDirectory(prefix=".build-", dir=folder.parent) as work:
        product = Path(work) / "product"
        scons(goal, f"target={target.name}", f"toolchain={toolchain.name}", f"build_dir={work}/build", f"install_dir={product}")
        product.rename(folder)


def _drop_oldest(stem: str) -> None:
    """Removes builds beyond `KEPT`, those first that were not used for longest."""
    same = [p for p in cache_folder().glob(f"{stem}-*") if p.is_dir() and len(p.name) == len(stem) + 17]
    for folder in sorted(same, key=lambda p: p.stat().st_mtime)[:-KEPT]:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """One process at a time: each uses all processors."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _digest(target: Target, toolchain: Toolchain, extra: Iterable[Path]) -> str:
    """Of everything that a build depends on."""
    root = source_root()
    files = [root / "SConstruct", root / "targets" / f"{target.name}.toml", *extra]
    files += sorted(path for path in (root / "csrc").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    digest = hashlib.sha256(_version(toolchain).encode())
    for path in files:
        content = path.read_bytes()
        digest.update(f"{path.name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


@cache
def _version(toolchain: Toolchain) -> str:
    """The compiler and its version."""
    if toolchain.family == "zig":
        return f"zig {metadata.version('ziglang')}"
    shown = subprocess.run([*toolchain.cc, "--version"], capture_output=True, text=True, check=False).stdout
    return f"{shutil.which(toolchain.cc[0])} {shown}"
