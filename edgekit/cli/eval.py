# SPDX-License-Identifier: Apache-2.0
"""edgekit eval"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli import options
from edgekit.cli.output import print_fields, print_json, working

EXAMPLE = "edgekit eval net.ekm --data labelled.npz --metric top1"


def command(
    model: options.AnyModel,
    data: Annotated[Path, typer.Option("--data", metavar="DATA", help="Samples with labels in 'y'.")],
    metric: Annotated[str, typer.Option("--metric", metavar="NAME", help="top1, auc or mse.")] = "top1",
    kernels: options.Kernels = "auto",
    threads: options.Threads = 1,
    input_layout: options.InputLayout = None,
    input_mean: options.InputMean = None,
    input_std: options.InputStd = None,
    samples: options.Samples = None,
    json: options.Json = False,
) -> None:
    """Accuracy on labelled data; a float .onnx runs in ONNX Runtime."""
    from edgekit.commands.eval import evaluate
    from edgekit.data import Preprocessing

    preprocessing = Preprocessing.parse(input_layout, input_mean, input_std)
    with working() as progress:
        result = evaluate(
            model, data, metric, preprocessing, kernels=kernels, threads=threads, samples=samples, progress=progress
        )
    if json:
        print_json(result)
        return
    value = f"{100 * result.value:.2f} %" if metric == "top1" else f"{result.value:.6g}"
    print_fields([("model", model), (metric, value), ("samples", result.samples)])
