# SPDX-License-Identifier: Apache-2.0
"""Builds the C runtime for a target, from a checkout or from an installed wheel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.errors import EdgekitError, InputError
from edgekit.sources import source_root

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Target:
    """A description in targets/, and what of its tools is installed here.

    Attributes:
        arch: processor architecture; `host` for this machine's.
        kernels: kernel sets in its build.
        toolchain: the C compiler that would be used; None where none is installed.
        emulator: command that runs its programs here; None where there is none.
    """

    name: str
    description: str
    arch: str
    kernels: list[str]
    toolchain: str | None
    emulator: str | None


@dataclass(frozen=True)
class Built:
    """What `build` made: the files, and the code size of the static library in bytes, constants included;
    None where the toolchain has no `size`."""

    target: str
    artifacts: list[Path]
    text_bytes: int | None


def targets() -> list[Target]:
    """The known targets, by name."""
    return [_target(path) for path in sorted((source_root() / "targets").glob("*.toml"))]


def target(name: str) -> Target:
    """The target of that name.

    Raises:
        InputError: there is none.
    """
    known = targets()
    for candidate in known:
        if candidate.name == name:
            return candidate
    raise InputError(f"target '{name}' is unknown; use one of {', '.join(t.name for t in known)}")


def build(name: str, output: Path | None = None) -> Built:
    """Builds libraries, `edgekit-run` and headers with SCons, into `output` (`edgekit-NAME` by default).

    Raises:
        InputError: the target is unknown, or no compiler for it is installed.
        EdgekitError: a compiler fails; its messages are on stderr.
    """
    chosen = target(name)
    if chosen.toolchain is None:
        compilers = ", ".join(tools["cc"] for tools in _describe(name)["toolchains"])
        raise InputError(f"target '{name}': no compiler is installed; install one of {compilers}")
    folder = (output or Path(f"edgekit-{name}")).resolve()
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{output}: is not a folder; give another one with -o")
    parent = next(path for path in folder.parents if path.exists())
    if not parent.is_dir() or not os.access(folder if folder.exists() else parent, os.W_OK):
        raise InputError(f"{folder}: cannot be made in {parent}; give another folder with -o")
    with tempfile.TemporaryDirectory(prefix="edgekit-build-") as work:
        command = [sys.executable, "-m", "SCons", "-Q", f"-j{os.cpu_count() or 1}", "-C", str(source_root()), "install"]
        command += [f"target={name}", f"build_dir={work}", f"install_dir={folder}"]
        scons = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if scons.returncode:
            print(scons.stdout, end="", file=sys.stderr)
            raise EdgekitError(f"target '{name}': the build failed; the messages of the compiler stand above")
    artifacts = sorted(path for path in folder.rglob("*") if path.is_file())
    return Built(name, artifacts, _text_bytes(folder / "libedgekit.a", chosen))


def weight_tile(name: str) -> tuple[int, int] | None:
    """Rows and depth of the tiles in which the best convolution kernel of a target takes its weights; None
    where it takes them row by row. From csrc/kernels/kernels.def, best kernels first.

    Raises:
        InputError: the target is unknown.
    """
    kernels = target(name).kernels
    text = (source_root() / "csrc" / "kernels" / "kernels.def").read_text(encoding="utf-8")
    for kernel_set, n, k in re.findall(r"^EK_KERNEL\(CONV2D, (\w+),.*?(\d+), (\d+)\)", text, re.M):
        if kernel_set.lower() in kernels:
            return (int(n), int(k)) if int(n) else None
    return None


def _describe(name: str) -> dict[str, Any]:
    return tomllib.loads((source_root() / "targets" / f"{name}.toml").read_text(encoding="utf-8"))


def _target(path: Path) -> Target:
    description = _describe(path.stem)
    compilers = [tools["cc"] for tools in description["toolchains"]]
    emulator = description.get("emulator")
    return Target(
        name=path.stem,
        description=description["description"],
        arch=description["arch"],
        kernels=list(description["kernels"]),
        toolchain=next((cc for cc in compilers if shutil.which(cc)), None),
        emulator=" ".join(emulator) if emulator and shutil.which(emulator[0]) else None,
    )


def _text_bytes(library: Path, chosen: Target) -> int | None:
    """The sum of the text column of `size` over the objects of a static library."""
    tools = next(t for t in _describe(chosen.name)["toolchains"] if t["cc"] == chosen.toolchain)
    size = shutil.which(tools["ar"].removesuffix("ar") + "size")
    if size is None:
        return None
    listing = subprocess.run([size, str(library)], capture_output=True, text=True, check=False)
    rows = [line.split() for line in listing.stdout.splitlines()[1:]]
    return sum(int(row[0]) for row in rows) if rows else None
