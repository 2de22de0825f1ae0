# SPDX-License-Identifier: Apache-2.0
"""edgekit prune"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli import options
from edgekit.cli.output import print_json, print_table, print_warnings, working

EXAMPLE = "edgekit prune net.onnx -o smaller.onnx --structured 0.5 --calibration images.npz"


def command(
    model: options.OnnxModel,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="SMALLER.onnx", help="Where to write.")],
    structured: Annotated[
        float | None,
        typer.Option("--structured", metavar="R", min=0.0, max=1.0, help="Remove this share of the channels of every group."),
    ] = None,
    sparsity: Annotated[
        float | None, typer.Option("--sparsity", metavar="R", min=0.0, max=1.0, help="Zero this share of the weights.")
    ] = None,
    calibration: options.Calibration = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DATA", help="Labelled data: accuracy before and after.")
    ] = None,
    input_layout: options.InputLayout = None,
    input_mean: options.InputMean = None,
    input_std: options.InputStd = None,
    input_shape: options.InputShape = None,
    json: options.Json = False,
) -> None:
    """Removes channels, or zeroes weights: ONNX in, ONNX out.

    Channels are ranked by weight magnitude, or by mean activation on --calibration data.
    """
    from edgekit.commands.convert import parse_shapes
    from edgekit.commands.prune import prune_file
    from edgekit.data import Preprocessing

    preprocessing = Preprocessing.parse(input_layout, input_mean, input_std)
    with working() as progress:
        result = prune_file(
            model,
            output,
            structured=structured,
            sparsity=sparsity,
            calibration=calibration,
            data=data,
            preprocessing=preprocessing,
            input_shapes=parse_shapes(input_shape),
            progress=progress,
        )
    print_warnings(result.warnings)
    if json:
        print_json({"before": result.before, "after": result.after, "warnings": result.warnings})
        return
    keys = [key for key in result.before if key in result.after]
    print_table(["", "before", "after"], [(key, result.before[key], result.after[key]) for key in keys])
