# SPDX-License-Identifier: Apache-2.0
"""Linker scripts from the memory of a target's board, and which targets have one."""

from __future__ import annotations

from edgekit.building.targets import Memory, Target, TargetError, read_target, read_targets
from edgekit.errors import InputError
from edgekit.sources import source_root

_SCRIPT = """\
/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory of the board that QEMU emulates for the target {target}. For another board, change MEMORY.
 */
ENTRY(ek_start)

MEMORY
{{
{regions}
}}

SECTIONS
{{
    .text : {{ KEEP(*(.vectors)) *(.text .text.*) }} > FLASH
    .rodata : {{ *(.rodata .rodata.*) }} > FLASH
    .ARM.exidx : ALIGN(4) {{ *(.ARM.exidx*) }} > FLASH
    .data : ALIGN(8)
    {{
        ek_data_begin = .;
        *(.data .data.*)
        . = ALIGN(8);
        ek_data_end = .;
    }} > RAM AT > FLASH
    ek_data_load = LOADADDR(.data);
    .bss (NOLOAD) : ALIGN(8)
    {{
        ek_bss_begin = .;
        *(.bss .bss.* COMMON)
        . = ALIGN(8);
        ek_bss_end = .;
    }} > RAM
    /* Not zeroed at the start. */
    .noinit (NOLOAD) : ALIGN(64) {{ *(.noinit .noinit.*) }} > RAM
    .stack (NOLOAD) : ALIGN(8)
    {{
        ek_stack_limit = .;
        . += {stack_bytes};
        ek_stack_top = .;
    }} > RAM
{heap}}}
"""

_REST_OF_RAM = """\
    ek_heap_begin = ALIGN(ek_stack_top, 64);
    ek_heap_end = ORIGIN(RAM) + LENGTH(RAM);
"""


def board_names() -> list[str]:
    """Targets without operating system, whose memory is known."""
    return [target.name for target in read_targets(source_root()) if _is_board(target)]


def board(name: str) -> Target:
    """The target of that name.

    Raises:
        InputError: it is unknown, or no microcontroller.
    """
    try:
        target = read_target(source_root(), name)
    except TargetError as error:
        raise InputError(f"{error}; firmware is made for {', '.join(board_names())}") from error
    if not _is_board(target):
        raise InputError(
            f"target {name}: has an operating system; firmware is made for {', '.join(board_names())}; "
            f"`edgekit build --target {name}` makes libraries"
        )
    return target


def linker_script(target: Target, stack_bytes: int, heap: bool = False) -> str:
    """The script for GNU ld.

    Args:
        stack_bytes: reserved for the stack; a multiple of 8.
        heap: define `ek_heap_begin` and `ek_heap_end` around the RAM that is left.
    """
    regions = "\n".join(_region(name.upper(), memory) for name, memory in target.memory.items())
    return _SCRIPT.format(target=target.name, regions=regions, stack_bytes=stack_bytes, heap=_REST_OF_RAM if heap else "")


def heap_bytes(target: Target) -> int:
    """About what `heap` gives a program: the RAM, which it shares with data and stack."""
    return target.memory["ram"].bytes


def _region(name: str, memory: Memory) -> str:
    access = "rx" if name == "FLASH" else "rwx"
    return f"    {name} ({access}) : ORIGIN = {memory.origin:#010x}, LENGTH = {memory.bytes:#x}"


def _is_board(target: Target) -> bool:
    return target.system == "none" and target.memory.keys() >= {"flash", "ram"} and bool(target.emulator)
