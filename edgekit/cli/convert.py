# SPDX-License-Identifier: Apache-2.0
"""edgekit convert"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli import options
from edgekit.cli.output import print_fields, print_json, print_table, print_warnings, working

EXAMPLE = "edgekit convert net.onnx -o net.ekm --calibration images.npz --input-layout nhwc --input-std 255"


def command(
    model: options.OnnxModel,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="MODEL.ekm", help="Where to write; beside the model by default."),
    ] = None,
    bits: Annotated[int, typer.Option("--bits", help="Weight and activation bits; 8.")] = 8,
    calibration: options.Calibration = None,
    method: Annotated[
        str, typer.Option("--method", metavar="NAME", help="auto, minmax, percentile, mse or entropy.")
    ] = "auto",
    target: Annotated[
        str | None, typer.Option("--target", metavar="NAME", help="Pack weights for a target of `edgekit targets`.")
    ] = None,
    input_layout: options.InputLayout = None,
    input_mean: options.InputMean = None,
    input_std: options.InputStd = None,
    input_shape: options.InputShape = None,
    io: Annotated[str, typer.Option("--io", metavar="float|int8", help="Type of the model's inputs and outputs.")] = "float",
    io_layout: Annotated[
        str | None, typer.Option("--io-layout", metavar="nchw|nhwc", help="Layout of image inputs and outputs.")
    ] = None,
    prune: Annotated[
        float | None,
        typer.Option("--prune", metavar="R", min=0.0, max=1.0, help="First remove this share of the channels."),
    ] = None,
    sparsity: Annotated[
        float | None,
        typer.Option("--sparsity", metavar="R", min=0.0, max=1.0, help="First zero this share of the weights."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DATA", help="With --prune or --sparsity: accuracy before and after.")
    ] = None,
    strip: Annotated[bool, typer.Option("--strip", help="Leave out the debug names.")] = False,
    tuned: Annotated[
        Path | None, typer.Option("--tuned", metavar="TABLE.json", help="Choose kernels by a table of `edgekit tune`.")
    ] = None,
    samples: options.Samples = None,
    json: options.Json = False,
) -> None:
    """Imports, simplifies, calibrates, quantizes, plans memory, and writes one flat file.

    Without --calibration, ranges come from the model itself or from synthetic input, with a warning.
    """
    from edgekit.commands.convert import convert

    with working() as progress:
        result = convert(
            model,
            output,
            bits=bits,
            calibration=calibration,
            method=method,
            target=target,
            input_layout=input_layout,
            input_mean=input_mean,
            input_std=input_std,
            input_shapes=input_shape,
            io=io,
            io_layout=io_layout,
            prune=prune,
            sparsity=sparsity,
            data=data,
            strip=strip,
            tuned=tuned,
            samples=samples,
            progress=progress,
        )
    print_warnings(result.warnings)
    if json:
        print_json(result.as_dict())
        return
    print_fields(
        [
            ("model", result.model),
            ("file", f"{result.bytes:,} bytes, of which weights {result.weight_bytes:,}"),
            ("arena", f"{result.arena_bytes:,} bytes"),
            ("operators", result.ops),
            ("MACs", result.macs),
            ("target", result.target),
        ]
    )
    if result.before and result.after:
        keys = [key for key in result.before if key in result.after]
        print_table(["", "before", "after"], [(key, result.before[key], result.after[key]) for key in keys])
