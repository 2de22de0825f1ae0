# SPDX-License-Identifier: Apache-2.0
"""edgekit export"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli import options
from edgekit.cli.output import print_fields, print_json, working

EXAMPLE = "edgekit export net.ekm -o net.quant.onnx"


def command(
    model: options.EkmModel,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="MODEL.quant.onnx", help="Where to write.")],
    json: options.Json = False,
) -> None:
    """The same integer model as ONNX: a plain ONNX Runtime session gives the same bits."""
    from edgekit.export import export

    with working():
        result = export(model, output)
    if json:
        print_json(result)
        return
    print_fields(
        [
            ("model", output),
            ("operators", ", ".join(f"{name} {count}" for name, count in result["ops"].items())),
            ("outside ai.onnx", ", ".join(result["nonstandard_ops"]) or "none"),
        ]
    )
