# SPDX-License-Identifier: Apache-2.0
"""edgekit firmware"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli import options
from edgekit.cli.output import print_fields, print_json, working

EXAMPLE = "edgekit firmware net.ekm --target cortex-m4 -o firmware && make -C firmware run"


def command(
    model: options.EkmModel,
    target: Annotated[str, typer.Option("--target", metavar="NAME", help="A microcontroller of `edgekit targets`.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="The new folder.")],
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
    """
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
