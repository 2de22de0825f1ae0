# SPDX-License-Identifier: Apache-2.0
"""Builds the C runtime for a target, from a checkout or from an installed wheel."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgekit.building import targets as descriptions
from edgekit.building.code_size import text_bytes
from edgekit.building.scons import scons
from edgekit.errors import InputError
from edgekit.format.tiles import Tile, TileByLayer
from edgekit.format.writer import Packing
from edgekit.kernel_sets import ladder, listed_kernels
from edgekit.sources import source_root


@dataclass(frozen=True)
class ToolchainStatus:
    """A compiler of a target: whether it is here, and else how to get it."""

    name: str
    compiler: str
    found: bool
    install: str


@dataclass(frozen=True)
class Target:
    """A description in targets/, and what of its tools is installed here.

    Attributes:
        arch: processor architecture.
        system: `linux`, `none` without operating system, `host` for this machine's.
        kernels: kernel sets in its build.
        toolchain: name of the toolchain that `build` uses here; None where none is installed.
        emulator: command that runs its programs here; None where there is none.
        toolchains: all that can build it, in order of preference.
        install: what to install for the rest, one command each; empty where nothing is missing.
        memory: bytes of `flash` and `ram` of a microcontroller's board.
    """

    name: str
    description: str
    arch: str
    system: str
    cpu: str
    kernels: list[str]
    toolchain: str | None
    emulator: str | None
    toolchains: list[ToolchainStatus]
    install: list[str]
    memory: dict[str, int]


@dataclass(frozen=True)
class Built:
    """What `build` made.

    Attributes:
        toolchain: the name of the one that was used.
        artifacts: every file.
        text_bytes: code and constants of the static library; None where its format is not known here.
    """

    target: str
    toolchain: str
    artifacts: list[Path]
    text_bytes: int | None


def targets() -> list[Target]:
    """The known targets, by name.

    Raises:
        InputError: a description is wrong.
    """
    return [_status(_read(name)) for name in descriptions.target_names(source_root())]


def target(name: str) -> Target:
    """The target of that name.

    Raises:
        InputError: there is none, or its description is wrong.
    """
    return _status(_read(name))


def build(name: str, output: Path | None = None, toolchain: str | None = None) -> Built:
    """Builds libraries, `edgekit-run`, headers and files for pkg-config and CMake, into `output`
    (`edgekit-NAME` by default); without an operating system the static library and headers alone.

    Args:
        toolchain: one of the target's; by default the first that is installed.

    Raises:
        InputError: the target or toolchain is unknown or not installed, or `output` cannot be written; what it
            held before is then still there.
        EdgekitError: a compiler fails.
    """
    try:
        tools = _read(name).toolchain(toolchain)
    except descriptions.TargetError as error:
        raise InputError(str(error)) from error
    folder, existing = _destination(output or Path(f"edgekit-{name}"))
    try:
        with _temporary() as objects, _temporary(existing) as staged:
            product = Path(staged) / "product"
            scons(f"target={name}", f"toolchain={tools.name}", f"build_dir={objects}", f"install_dir={product}", "install")
            size = text_bytes(product / "libedgekit.a")
            return Built(name, tools.name, _move(product, folder), size)
    except OSError as error:
        raise InputError(f"{error.filename or folder}: {error.strerror or error}; give another folder with -o") from error


def weight_tile(name: str) -> Tile | TileByLayer | None:
    """Rows and depth of the tiles in which the convolution kernels of a target's packing take their weights, or what
    gives them for each layer, if they differ; None where they take them row by row.

    Raises:
        InputError: the target is unknown.
    """
    sets = ladder(_read(name).packing)
    convolutions = [kernel for kernel in listed_kernels() if kernel.kind == "conv2d" and kernel.set in sets]
    best = [kernel for kernel in convolutions if kernel.set == convolutions[0].set and kernel.tile[1] >= 0]
    tiles = {kernel.tile for kernel in best}
    if len(tiles) > 1:
        return TileByLayer(tuple((kernel.name, kernel.tile) for kernel in best))
    (tile,) = tiles
    return tile if tile[0] else None


def weight_packing(name: str) -> Packing:
    """How the convolution kernels of a target's packing like their weights.

    Raises:
        InputError: the target is unknown.
    """
    best = next(kernel for kernel in listed_kernels() if kernel.kind == "conv2d" and kernel.set in ladder(_read(name).packing))
    return Packing(tile=weight_tile(name), paired=best.tile[1] < 0)


def _read(name: str) -> descriptions.Target:
    """The description of a target.

    Raises:
        InputError: there is none, or it is wrong.
    """
    try:
        return descriptions.read_target(source_root(), name)
    except descriptions.TargetError as error:
        raise InputError(str(error)) from error


def _status(read: descriptions.Target) -> Target:
    """What of a target's tools is here."""
    toolchains = [ToolchainStatus(t.name, " ".join(t.cc), t.found(), t.install) for t in read.toolchains]
    used = next((t.name for t in toolchains if t.found), None)
    emulator = read.emulator if read.emulator and shutil.which(read.emulator[0]) else None
    install = [read.install()] if used is None else []
    if read.emulator and emulator is None:
        install.append(descriptions.emulator_install(read.emulator[0]))
    return Target(
        name=read.name,
        description=read.description,
        arch=read.arch,
        system=read.system,
        cpu=read.cpu,
        kernels=list(read.kernels),
        toolchain=used,
        emulator=" ".join(emulator) if emulator else None,
        toolchains=toolchains,
        install=install,
        memory={region: memory.bytes for region, memory in read.memory.items()},
    )


def _destination(output: Path) -> tuple[Path, Path]:
    """The absolute folder to install into, and the innermost that exists of it and those around it.

    Raises:
        InputError: it cannot be made or written.
    """
    try:
        folder = output.resolve()
        existing = next(path for path in (folder, *folder.parents) if path.exists())
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{output}: cannot be made: {reason}; give another folder with -o") from error
    if not existing.is_dir():
        raise InputError(f"{existing}: is not a folder; give another one with -o")
    if not os.access(existing, os.W_OK):
        raise InputError(f"{existing}: cannot be written; give another folder with -o")
    return folder, existing


def _temporary(parent: Path | None = None) -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix=".edgekit-", dir=parent)


def _move(product: Path, folder: Path) -> list[Path]:
    """Moves all files to their places in `folder`, which is on the same file system, and returns these.

    Raises:
        InputError: something else is in such a place; nothing was moved.
    """
    places = {path: folder / path.relative_to(product) for path in sorted(product.rglob("*")) if path.is_file()}
    for place in places.values():
        _check_place(place, folder)
    for path, place in places.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        path.replace(place)
    return list(places.values())


def _check_place(place: Path, folder: Path) -> None:
    """Whether a file can be put there."""
    if place.is_dir():
        raise InputError(f"{place}: is a folder, where a file is to be; give another folder with -o")
    for parent in place.parents:
        if parent.exists() and not (parent.is_dir() and os.access(parent, os.W_OK)):
            raise InputError(f"{parent}: cannot hold files; give another folder with -o")
        if parent == folder:
            return
