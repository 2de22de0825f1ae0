# SPDX-License-Identifier: Apache-2.0
"""edgekit build"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli import options
from edgekit.cli.output import print_fields, print_json, working

EXAMPLE = "edgekit build --target host -o runtime"


def command(
    target: Annotated[str, typer.Option("--target", metavar="NAME", help="One of `edgekit targets`.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Where to put it; edgekit-NAME by default.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Compiles the C runtime: static and shared library, edgekit-run, headers."""
    from edgekit.commands.build import build

    with working():
        built = build(target, output)
    if json:
        print_json(built)
        return
    print_fields([("target", target), ("code", f"{built.text_bytes or 0:,} bytes")])
    print_fields([("", path) for path in built.artifacts])
