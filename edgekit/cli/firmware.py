# SPDX-License-Identifier: Apache-2.0
"""edgekit firmware"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli import options
from edgekit.cli.output import print_fields, print_json, working
from edgekit.errors import InputError

EXAMPLE = "edgekit firmware net.ekm --target cortex-m4 -o firmware && make -C firmware run"


class Form(str, Enum):
    """What the folder is for."""

    PROGRAM = "program"
    LIBRARY = "library"


def command(
    model: options.EkmModel,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="The new folder.")],
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            metavar="NAME",
            help="A microcontroller of `edgekit targets`. A library without it is for any 32-bit processor, ESP32 for one.",
        ),
    ] = None,
    form: Annotated[
        Form,
        typer.Option("--as", help="A program with a Makefile, or a library for Zephyr, PlatformIO, Arduino and ESP-IDF."),
    ] = Form.PROGRAM,
    input: Annotated[
        Path | None,
        typer.Option("--input", metavar="DATA", help="Its first sample is the self-test's; a random one by default."),
    ] = None,
    input_layout: options.InputLayout = None,
    input_mean: options.InputMean = None,
    input_std: options.InputStd = None,
    json: options.Json = False,
) -> None:
    """A folder of C that builds with make: model in flash, the runtime parts that it needs, a self-test.

    It appears after it was built and has passed its self-test on the board that QEMU emulates.

    With --as library: a Zephyr module, PlatformIO and Arduino library and ESP-IDF component, without a self-test.
    """
    if form is Form.LIBRARY:
        if any(value is not None for value in (input, input_layout, input_mean, input_std)):
            raise InputError("a library has no self-test; leave out --input and what says how to read it")
        _library(model, target, output, json)
        return
    if target is None:
        raise InputError("a program is for one board; add --target NAME, one of `edgekit targets`")
    from edgekit.commands.firmware import firmware
    from edgekit.data import Preprocessing

    preprocessing = Preprocessing.parse(input_layout, input_mean, input_std)
    with working():
        made = firmware(model, target, output, input, preprocessing)
    if json:
        print_json(made)
        return
    sizes = made.sizes
    print_fields(
        [
            ("folder", made.folder),
            ("target", made.target),
            ("flash", f"{sizes.flash_bytes:,} bytes: code {sizes.code_bytes:,}, model {sizes.model_bytes:,}"),
            ("RAM", f"{sizes.ram_bytes:,} bytes: memory {sizes.memory_bytes:,}, stack {sizes.stack_bytes:,}"),
            ("MACs", made.macs),
            ("self-test", "passed under QEMU"),
        ]
    )


def _library(model: Path, target: str | None, output: Path, json: bool) -> None:
    from edgekit.commands.library import library

    with working():
        made = library(model, target, output)
    if json:
        print_json(made)
        return
    print_fields(
        [
            ("folder", made.folder),
            ("library", made.name),
            ("for", made.processor),
            ("flash", f"model {made.model_bytes:,} bytes, and code"),
            ("RAM", f"memory {made.memory_bytes:,} bytes, and inputs and outputs"),
            ("MACs", made.macs),
        ]
    )
