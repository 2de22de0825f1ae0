# SPDX-License-Identifier: Apache-2.0
"""edgekit verify"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from edgekit.cli import options
from edgekit.cli.output import print_fields, print_json, print_table, working
from edgekit.errors import InputError

EXAMPLE = "edgekit verify net.ekm --input images.npz --write-certificate net.cert.json"


def command(
    model: options.EkmModel,
    input: Annotated[
        Optional[Path], typer.Option("--input", metavar="DATA", help="Samples; seeded random ones by default.")
    ] = None,
    backends: Annotated[
        Optional[str], typer.Option("--backends", metavar="LIST", help="reference, c-<kernel set>, onnxruntime; all by default.")
    ] = None,
    samples: options.Samples = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the random samples.")] = 0,
    input_layout: options.InputLayout = None,
    input_mean: options.InputMean = None,
    input_std: options.InputStd = None,
    certificate: Annotated[
        Optional[Path], typer.Option("--certificate", metavar="FILE", help="Check that a certificate still holds.")
    ] = None,
    write_certificate: Annotated[
        Optional[Path], typer.Option("--write-certificate", metavar="FILE", help="Write what was shown.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Compares every backend that can run here, bit by bit, on every 8-bit tensor.

    Exit code 1 where any bit differs; the first tensor that does is named.
    """
    from edgekit.verify import verify

    raise InputError("x")
