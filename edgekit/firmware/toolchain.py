# SPDX-License-Identifier: Apache-2.0
"""GCC and newlib for Cortex-M, and the emulator: whether they are here, and how they are called."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from edgekit.building.targets import Target, Toolchain, emulator_install
from edgekit.errors import EdgekitError

# Contraction would change results.
FLAGS = ("-std=c11", "-Wall", "-Wextra", "-ffp-contract=off", "-ffunction-sections", "-fdata-sections")
LINK_FLAGS = ("-nostartfiles", "-Wl,--gc-sections", "-Wl,--no-warn-rwx-segments")
"""newlib gives memcpy, memmove and memset alone; the full one, as nano's copy single bytes."""


def missing(target: Target) -> str | None:
    """Why nothing can be linked for a board here, with the remedy; None where it can."""
    gcc = _gcc(target)
    if not gcc.found():
        return f"{gcc.cc[0]} is not installed: {gcc.install}"
    if not _has_newlib(gcc.cc[0]):
        return f"{gcc.cc[0]} has no C library: {gcc.install}"
    return None


def missing_emulator(target: Target) -> str | None:
    """Why nothing can run on the emulated board here, with the remedy; None where it can."""
    if shutil.which(target.emulator[0]) is None:
        return f"{target.emulator[0]} is not installed: {emulator_install(target.emulator[0])}"
    return None


def cpu_command(target: Target) -> list[str]:
    """The compiler, and what tells it the processor."""
    gcc = _gcc(target)
    return [*gcc.cc, *gcc.flags]


def compile_command(target: Target) -> list[str]:
    """The compiler with all flags."""
    return [*cpu_command(target), *FLAGS, "-O2"]


def run(command: Sequence[str | os.PathLike[str]], folder: Path | None = None) -> str:
    """Runs a tool and returns what it prints.

    Raises:
        EdgekitError: it fails; the message has its first error.
    """
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines() or [""]
        raise EdgekitError(f"{Path(command[0]).name} failed: {lines[0].strip()}")
    return done.stdout


def _gcc(target: Target) -> Toolchain:
    return next(toolchain for toolchain in target.toolchains if toolchain.family == "gcc")


@cache
def version(command: str) -> str:
    """What names a compiler's version."""
    return run([command, "--version"]).splitlines()[0]


@cache
def _has_newlib(command: str) -> bool:
    return Path(run([command, "-print-file-name=libc.a"]).strip()).is_absolute()
