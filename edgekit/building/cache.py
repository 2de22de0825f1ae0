# SPDX-License-Identifier: Apache-2.0
"""Builds that are kept: made once for one state of the sources and one compiler.

They lie in EDGEKIT_CACHE, or `edgekit` in XDG_CACHE_HOME (by default ~/.cache), and may be deleted at any time.
Each holds the digests of its files, so that one that was damaged is made again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import metadata
from pathlib import Path

from edgekit.building.scons import scons
from edgekit.building.targets import Target, Toolchain
from edgekit.errors import InputError
from edgekit.sources import source_root

KEPT = 6
"""Builds of one name that stay; with another, the oldest goes."""
DIGESTS = "SHA256SUMS"
"""Of the other files of a build, as `sha256sum` writes them."""
_UNFINISHED = ".build-"


def cache_folder() -> Path:
    """Where builds are kept.

    Raises:
        InputError: nothing tells where.
    """
    try:
        if given := os.environ.get("EDGEKIT_CACHE"):
            return Path(given).resolve()
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").resolve() / "edgekit"
    except RuntimeError as error:  # a user without home; a loop of links, before Python 3.13
        raise InputError(f"no folder for builds: {error}; set EDGEKIT_CACHE to one that can be written") from error


def cached_build(target: Target, toolchain: Toolchain, goal: str, sources: Iterable[Path] = ()) -> Path:
    """The folder that SCons's `goal` fills for a target.

    Args:
        sources: files outside csrc/ that the goal is made of.

    Raises:
        EdgekitError: the build fails.
        InputError: the cache cannot be written.
    """

    def make(product: Path) -> None:
        objects = product.with_name("build")
        scons(goal, f"target={target.name}", f"toolchain={toolchain.name}", f"build_dir={objects}", f"install_dir={product}")

    return cached(f"{goal}-{target.name}-{toolchain.name}", _parts(target, toolchain, sources), make)


def cached(stem: str, parts: Iterable[bytes], make: Callable[[Path], None]) -> Path:
    """The folder of the cache that was made from `parts`; made now where there is none, or it was damaged.

    Args:
        stem: of its name; of the folders with the same one, the last `KEPT` stay.
        make: fills the folder that it is given, which is empty; what it leaves beside it is removed.

    Raises:
        InputError: the cache cannot be written.
    """
    folder = cache_folder() / f"{stem}-{_digest(parts)[:16]}"
    if _whole(folder):
        with suppress(OSError):  # somebody else's
            folder.touch()
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _lock(folder.parent / ".lock"):
            if not _whole(folder):
                _remove_left_over(folder)
                _fill(folder, make)
                _drop_oldest(stem)
    except OSError as error:
        raise cannot_write(folder.parent, error) from error
    return folder


def cannot_write(folder: Path, error: OSError) -> InputError:
    """What to say where the cache in `folder` cannot be written."""
    return InputError(f"{error.filename or folder}: {error.strerror or error}; set EDGEKIT_CACHE to a folder that can be written")


def _fill(folder: Path, make: Callable[[Path], None]) -> None:
    """Fills `folder` at once, so that it is never seen half full."""
    with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=folder.parent) as work:
        product = Path(work) / "product"
        product.mkdir()
        make(product)
        (product / DIGESTS).write_text(_digests(product), encoding="utf-8")
        product.rename(folder)


def _whole(folder: Path) -> bool:
    """Whether a build is there and as it was made."""
    try:
        return (folder / DIGESTS).read_text(encoding="utf-8") == _digests(folder)
    except (OSError, UnicodeDecodeError):
        return False


def _digests(folder: Path) -> str:
    """A line for each file, by name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != DIGESTS)
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n" for path in files)


def _remove_left_over(folder: Path) -> None:
    """What is in the way of a build, and what processes that were killed left; all others wait for the lock."""
    for path in (folder, *folder.parent.glob(f"{_UNFINISHED}*")):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _drop_oldest(stem: str) -> None:
    """Removes builds beyond `KEPT`, those first that were not used for longest."""
    same = [p for p in cache_folder().glob(f"{stem}-*") if p.is_dir() and len(p.name) == len(stem) + 17]
    for folder in sorted(same, key=lambda p: p.stat().st_mtime)[:-KEPT]:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """One process at a time: builds use all processors."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _parts(target: Target, toolchain: Toolchain, extra: Iterable[Path]) -> Iterator[bytes]:
    """Everything that a build depends on."""
    root = source_root()
    files = [root / "SConstruct", root / "targets" / f"{target.name}.toml", *extra]
    files += sorted(path for path in (root / "csrc").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    yield _version(toolchain).encode()
    for path in files:
        yield path.name.encode()
        yield path.read_bytes()


def _digest(parts: Iterable[bytes]) -> str:
    """SHA-256 of the parts and where each ends."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


@cache
def _version(toolchain: Toolchain) -> str:
    """The compiler and its version."""
    if toolchain.family == "zig":
        return f"zig {metadata.version('ziglang')}"
    shown = subprocess.run([*toolchain.cc, "--version"], capture_output=True, text=True, check=False).stdout
    return f"{shutil.which(toolchain.cc[0])} {shown}"
