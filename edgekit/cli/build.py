# SPDX-License-Identifier: Apache-2.0
"""edgekit build"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli import options
from edgekit.cli.output import print_fields, print_json, working

EXAMPLE = "edgekit build --target rpi4 -o runtime"


def command(
    target: Annotated[str, typer.Option("--target", metavar="NAME", help="One of `edgekit targets`.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Where to put it; edgekit-NAME by default.")
    ] = None,
    toolchain: Annotated[
        str | None,
        typer.Option("--toolchain", metavar="NAME", help="One of the target's, e.g. gcc or zig; the first that is here by default."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Compiles the C runtime for a board: static and shared library, edgekit-run, headers, pkg-config and CMake files."""
    from edgekit.commands.build import build

    with working():
        built = build(target, output, toolchain)
    if json:
        print_json(built)
        return
    print_fields([("target", target), ("toolchain", built.toolchain), ("code", _size(built.text_bytes))])
    print_fields([("", path) for path in built.artifacts])


def _size(text_bytes: int | None) -> str | None:
    return None if text_bytes is None else f"{text_bytes:,} bytes"
