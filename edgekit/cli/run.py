# SPDX-License-Identifier: Apache-2.0
"""edgekit run"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli import options
from edgekit.cli.output import print_json, print_table, working

EXAMPLE = "edgekit run net.ekm --input images.npz -o scores.npz"


def command(
    model: options.EkmModel,
    input: Annotated[Path, typer.Option("--input", metavar="DATA", help="Samples: .npz, .npy or a folder of images.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT.npz", help="Write the outputs, one array each.")
    ] = None,
    kernels: options.Kernels = "auto",
    threads: options.Threads = 1,
    batch_threads: Annotated[
        int,
        typer.Option(
            "--batch-threads", metavar="N", min=1, help="Compute N samples at a time, each with --threads threads."
        ),
    ] = 1,
    pipeline: Annotated[
        int,
        typer.Option(
            "--pipeline", metavar="N", min=1, help="Pass samples through N stages, each with a thread of its own."
        ),
    ] = 1,
    input_layout: options.InputLayout = None,
    input_mean: options.InputMean = None,
    input_std: options.InputStd = None,
    samples: options.Samples = None,
    on: options.On = None,
    json: options.Json = False,
) -> None:
    """Runs samples through the C runtime."""
    from edgekit.commands.run import run_data
    from edgekit.data import Preprocessing

    preprocessing = Preprocessing.parse(input_layout, input_mean, input_std)
    with working() as progress:
        outputs, used = run_data(
            model,
            input,
            preprocessing,
            kernels=kernels,
            threads=threads,
            batch_threads=batch_threads,
            pipeline=pipeline,
            samples=samples,
            on=on,
            output=output,
            progress=progress,
        )
    if json:
        print_json({"outputs": {name: list(array.shape) for name, array in outputs.items()}, "kernels": used})
        return
    rows = [(name, array.shape, str(array.dtype), array.min(), array.max()) for name, array in outputs.items()]
    print_table(["output", "shape", "type", "lowest", "highest"], rows, title=f"{model}, kernels {used}")
