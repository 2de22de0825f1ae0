# SPDX-License-Identifier: Apache-2.0
"""Makes a library of a model: C with the manifests of Zephyr, PlatformIO, Arduino and ESP-IDF."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.atomic import check_new_folder, new_folder
from edgekit.building.targets import Memory, Target
from edgekit.commands.build import weight_packing
from edgekit.commands.firmware import check_board, check_tools, title
from edgekit.errors import InputError
from edgekit.firmware.boards import board
from edgekit.firmware.library import Contents, generate_library
from edgekit.firmware.manifests import library_name
from edgekit.firmware.serve import STACK_BYTES, Server
from edgekit.format.reader import read
from edgekit.format.summary import summarize
from edgekit.format.writer import Packing, write

ANY_PROCESSOR = "any 32-bit processor"
_MEASURED_ON = "cortex-m3"
_MEASURING_RAM = Memory(origin=0x21000000, bytes=0x1000000)
"""The largest memory of that board's emulator, for models of any board."""


@dataclass(frozen=True)
class Library:
    """What was made.

    Attributes:
        folder: where it is.
        name: what build systems call it.
        processor: the target, or `ANY_PROCESSOR`.
        kernels: kernel of every step of the model.
        model_bytes: of the file, in flash.
        memory_bytes: of the runtime, in RAM.
        macs: multiply-accumulates of one inference.
    """

    folder: Path
    name: str
    processor: str
    kernels: list[str]
    model_bytes: int
    memory_bytes: int
    macs: int


def library(model: Path, target: str | None, output: Path) -> Library:
    """Writes the folder `output`.

    The model in it has its weights in the order of the target's kernels, whatever order the file has.

    Args:
        target: a microcontroller; None for scalar kernels, which run on any 32-bit processor.

    Raises:
        InputError: the target is no microcontroller, a tool is missing, the model does not fit the emulated board that
            tells its memory, or `output` cannot be written; nothing is left behind.
    """
    check_new_folder(output)
    measured = _target(target)
    program = replace(read(model), choices=[])
    content = write(program, packing=Packing() if target is None else weight_packing(target))
    if target is not None:
        check_board(model, content, program, measured)
    else:
        check_tools(measured)
        _check_size(model, len(content) + program.arena_bytes)
    with Server(measured) as server:
        prepared = server.load(program, content)
    fpu = any("-mfloat-abi=hard" in toolchain.flags for toolchain in measured.toolchains)
    contents = Contents(title(model), program, content, prepared, target or ANY_PROCESSOR, fpu)
    with new_folder(output) as folder:
        generate_library(contents, folder)
    return Library(
        folder=output,
        name=library_name(contents.title),
        processor=contents.processor,
        kernels=prepared.kernels,
        model_bytes=len(content),
        memory_bytes=prepared.memory_bytes,
        macs=summarize(content)["macs"],
    )


def _target(name: str | None) -> Target:
    """The board that tells what memory the runtime needs: where no target is named, one for all processors with
    pointers of 32 bits and 64-bit numbers aligned to 8."""
    if name is not None:
        return board(name)
    known = board(_MEASURED_ON)
    memory = {**known.memory, "ram": _MEASURING_RAM}
    return replace(known, name=f"{_MEASURED_ON}-scalar", kernels=("scalar",), memory=memory)


def _check_size(model: Path, size: int) -> None:
    limit = _MEASURING_RAM.bytes - STACK_BYTES
    if size > limit:
        raise InputError(
            f"{model}: file and arena of {size:,} bytes are beyond the {limit:,} that an emulated processor has for "
            "telling a library's memory; use a smaller model"
        )
