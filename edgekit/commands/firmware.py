# SPDX-License-Identifier: Apache-2.0
"""Makes firmware of a model: a folder that builds with `make`, was built, and passed its self-test under QEMU."""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from edgekit.atomic import new_folder
from edgekit.building.targets import Target
from edgekit.commands.build import weight_packing
from edgekit.data import DataSource, Preprocessing
from edgekit.errors import InputError
from edgekit.firmware import build, toolchain
from edgekit.firmware.boards import board, heap_bytes
from edgekit.firmware.build import Linked
from edgekit.firmware.generate import Subject, generate, readme
from edgekit.firmware.serve import STACK_BYTES, Server
from edgekit.firmware.stack import stack_bound
from edgekit.format.reader import read
from edgekit.format.summary import summarize
from edgekit.format.writer import write
from edgekit.program import Program
from edgekit.verify.backends.base import Sample
from edgekit.verify.samples import synthetic

STACK_MARGIN = 256
"""Bytes of stack beyond the bound of the program's: an interrupt's frame with floating-point registers (104), and room
for its handler."""

_SYNTHETIC_SAMPLES = 16


@dataclass(frozen=True)
class Firmware:
    """What was made, and measured on the linked image.

    Attributes:
        folder: where it is; None where it was only measured.
        kernels: kernel of every step of the model.
        arena_bytes, scratch_bytes: parts of `sizes.memory_bytes`.
        arena_lower_bound_bytes: what no plan could do without.
        stack_bound: bytes of stack that no path through the program exceeds, without interrupts.
        stack_used: most bytes of stack in use during the self-test.
        macs: multiply-accumulates of one inference.
    """

    target: str
    folder: Path | None
    sizes: Linked
    kernels: list[str]
    arena_bytes: int
    arena_lower_bound_bytes: int
    scratch_bytes: int
    stack_bound: int
    stack_used: int
    macs: int


def firmware(
    model: Path,
    target: str,
    output: Path,
    data: DataSource | None = None,
    preprocessing: Preprocessing | None = None,
) -> Firmware:
    """Writes the folder `output`, once it has been built and has passed its self-test on the emulated board.

    The model in it has its weights in the order of the target's kernels, whatever order the file has.

    Args:
        data: its first sample becomes the self-test's input; a synthetic one without.

    Raises:
        InputError: the target is no microcontroller, a tool is missing, the model does not fit, or `output`
            cannot be written; nothing is left behind.
        CheckError: the self-test fails.
    """
    with new_folder(output) as folder:
        made = _make(model, target, folder, data, preprocessing)
        shutil.rmtree(folder / "build")
    return replace(made, folder=output)


def check_board(model: Path, content: bytes, program: Program, target: Target) -> None:
    """Refuses what cannot be tried on the emulated board.

    Args:
        content: the file that `program` becomes.

    Raises:
        InputError: a tool is missing, or the model does not fit the board's memory.
    """
    check_tools(target)
    _check_size(model, content, program, target)


def title(model: Path) -> str:
    """The model's name, fit for C strings, Makefiles and headings."""
    return re.sub(r"[^\w.-]", "_", model.stem, flags=re.ASCII) or "model"


def measure_firmware(model: Path, target: str) -> Firmware:
    """The same without keeping the folder.

    Raises:
        InputError, CheckError: as `firmware`.
    """
    with tempfile.TemporaryDirectory(prefix="edgekit-") as work:
        made = _make(model, target, Path(work) / "firmware", None, None)
    return replace(made, folder=None)


def _make(
    model: Path, name: str, folder: Path, data: DataSource | None, preprocessing: Preprocessing | None
) -> Firmware:
    target = board(name)
    check_tools(target)
    program = replace(read(model), choices=[])  # a processor that nobody tunes on
    content = write(program, packing=weight_packing(name))
    _check_size(model, content, program, target)
    sample, about = _sample(model, program, data, preprocessing)
    with Server(target) as server:
        prepared = server.load(program, content)
    subject = Subject(title(model), program, content, sample, about, target, prepared)
    _write_and_build(subject, folder, STACK_BYTES)
    bound = _stack_bound(subject, folder)
    _write_and_build(subject, folder, -(-(bound + STACK_MARGIN) // 8) * 8)
    used = build.stack_used(build.run(target, folder / "firmware.elf"))
    summary = summarize(content)
    made = Firmware(
        target=name,
        folder=folder,
        sizes=build.measure(target, folder / "firmware.elf"),
        kernels=prepared.kernels,
        arena_bytes=program.arena_bytes,
        arena_lower_bound_bytes=summary["arena_lower_bound_bytes"],
        scratch_bytes=prepared.scratch_bytes,
        stack_bound=bound,
        stack_used=used,
        macs=summary["macs"],
    )
    figures = {
        **vars(made.sizes), "arena_bytes": made.arena_bytes, "scratch_bytes": made.scratch_bytes,
        "stack_bound": bound, "stack_used": used, "stack_margin": STACK_MARGIN,
    }  # fmt: skip
    (folder / "README.md").write_text(readme(subject, figures, made.macs), encoding="utf-8")
    return made


def _stack_bound(subject: Subject, folder: Path) -> int:
    """Of the self-test; the application calls less."""
    gcc = toolchain.cpu_command(subject.target)[0]
    kernels = set(subject.prepared.kernels) - {""}
    operators = {op.opcode.name.lower() for op in subject.program.ops}
    return stack_bound(gcc, folder, folder / "firmware.elf", kernels, operators)


def _write_and_build(subject: Subject, folder: Path, stack_bytes: int) -> None:
    generate(subject, folder, stack_bytes)
    build.build(folder)


def check_tools(target: Target) -> None:
    """Refuses where a compiler or the board's emulator is missing.

    Raises:
        InputError: naming it.
    """
    reason = toolchain.missing(target) or toolchain.missing_emulator(target)
    if reason is None and shutil.which("make") is None:
        reason = "make is not installed: apt install make"
    if reason is not None:
        raise InputError(f"target {target.name}: {reason}")


def _check_size(model: Path, content: bytes, program: Program, target: Target) -> None:
    """The linker and the static assertions know exactly; this refuses what cannot even be tried."""
    for what, size, region in (("file", len(content), "flash"), ("arena", program.arena_bytes, "ram")):
        if size > target.memory[region].bytes:
            raise InputError(
                f"{model}: its {what} of {size:,} bytes does not fit the {target.memory[region].bytes:,} bytes of "
                f"{region} of {target.name}'s board; use a smaller model"
            )
    if len(content) + program.arena_bytes + STACK_BYTES > heap_bytes(target):
        raise InputError(f"{model}: file and arena do not fit the memory of {target.name}'s board; use a smaller model")


def _sample(
    model: Path, program: Program, data: DataSource | None, preprocessing: Preprocessing | None
) -> tuple[Sample, str]:
    """The self-test's input, and where it comes from."""
    if data is not None:
        from edgekit.engines import EdgekitEngine

        feed = EdgekitEngine(model).open(data, preprocessing or Preprocessing(), 1)
        return next(iter(feed)).arrays, "the first sample of the given data"
    # The first ones are directed; raw data, where the model takes it, comes in every second one.
    samples = list(islice(synthetic(program, 0), _SYNTHETIC_SAMPLES))
    return samples[-1], f"synthetic sample {_SYNTHETIC_SAMPLES - 1} of seed 0"
