# SPDX-License-Identifier: Apache-2.0
"""Builds a firmware folder, runs it on the emulated board and measures what was linked."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from edgekit.building.targets import Target
from edgekit.errors import CheckError
from edgekit.firmware import toolchain
from edgekit.parallel import processors

RUN_SECONDS = 600


@dataclass(frozen=True)
class Linked:
    """Bytes of a linked image.

    Attributes:
        code_bytes: in flash: what an application has beside the model: runtime, kernels, start-up code and its
            `main`, their constants and initial values.
        model_bytes: in flash.
        selftest_bytes: in flash: what the self-test adds: its program and data, printing, names of errors.
        flash_bytes: their sum.
        memory_bytes: in RAM: the runtime's memory.
        data_bytes: in RAM: outputs and other variables.
        stack_bytes: in RAM: reserved for the stack.
        ram_bytes: their sum.
    """

    code_bytes: int
    model_bytes: int
    selftest_bytes: int
    flash_bytes: int
    memory_bytes: int
    data_bytes: int
    stack_bytes: int
    ram_bytes: int


def build(folder: Path) -> Path:
    """Runs `make`, with call graphs, and returns the self-test's image; the application's lies beside it.

    Raises:
        EdgekitError: it fails.
    """
    toolchain.run(["make", "-s", f"-j{processors()}", "STACK=-fcallgraph-info=su"], folder)
    return folder / "firmware.elf"


def run(target: Target, image: Path) -> list[str]:
    """What the firmware prints on the emulated board, line by line.

    Raises:
        CheckError: it ends with an error or hangs.
    """
    command = [*target.emulator, str(image)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=RUN_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise CheckError(f"firmware for {target.name}: no end after {RUN_SECONDS} seconds") from error
    lines = done.stdout.splitlines()
    if done.returncode or "self-test passed" not in lines:
        raise CheckError(f"firmware for {target.name}: exit code {done.returncode}; {'; '.join(lines[-3:])}")
    return lines


def stack_used(lines: list[str]) -> int:
    """From what the firmware printed."""
    return next(int(line.removeprefix("stack bytes ")) for line in lines if line.startswith("stack bytes "))


def measure(target: Target, image: Path) -> Linked:
    """Sizes of sections and symbols of the self-test's image and the application's beside it."""
    prefix = toolchain.cpu_command(target)[0].removesuffix("gcc")
    sections = _sections(prefix, image)
    symbols = {
        match[2]: int(match[1], 16)
        for match in re.finditer(
            r"^[0-9a-f]+ ([0-9a-f]+) \w (\w+)$", toolchain.run([f"{prefix}nm", "-S", image]), re.M
        )
    }
    flash, application = _flash(sections), _flash(_sections(prefix, image.with_name("application.elf")))
    ram = sum(sections.get(name, 0) for name in (".data", ".bss", ".noinit", ".stack"))
    model, memory, stack = symbols["model_bytes"], symbols["memory"], sections[".stack"]
    return Linked(
        code_bytes=application - model,
        model_bytes=model,
        selftest_bytes=flash - application,
        flash_bytes=flash,
        memory_bytes=memory,
        data_bytes=ram - memory - stack,
        stack_bytes=stack,
        ram_bytes=ram,
    )


def _sections(prefix: str, image: Path) -> dict[str, int]:
    """Bytes of every section."""
    listing = toolchain.run([f"{prefix}size", "-A", image])
    return {match[1]: int(match[2]) for match in re.finditer(r"^(\.[\w.]+)\s+(\d+)\s+\d+$", listing, re.M)}


def _flash(sections: dict[str, int]) -> int:
    return sum(sections.get(name, 0) for name in (".text", ".rodata", ".ARM.exidx", ".data"))
