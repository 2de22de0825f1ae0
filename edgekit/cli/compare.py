# SPDX-License-Identifier: Apache-2.0
"""edgekit compare"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli import options
from edgekit.cli.output import print_fields, print_json, print_table, working

EXAMPLE = "edgekit compare net.onnx net.ekm --input images.npz --input-layout nhwc --input-std 255"


def command(
    onnx_model: options.OnnxModel,
    ekm_model: options.EkmModel,
    input: Annotated[Path, typer.Option("--input", metavar="DATA", help="Samples: .npz, .npy or a folder of images.")],
    input_layout: options.InputLayout = None,
    input_mean: options.InputMean = None,
    input_std: options.InputStd = None,
    input_shape: options.InputShape = None,
    samples: Annotated[int | None, typer.Option("--samples", metavar="N", min=1, help="Use at most N samples.")] = 64,
    json: options.Json = False,
) -> None:
    """Float against quantized, layer by layer: which layer lost the accuracy?"""
    from edgekit.commands.compare import compare
    from edgekit.commands.convert import parse_shapes
    from edgekit.data import Preprocessing

    preprocessing = Preprocessing.parse(input_layout, input_mean, input_std)
    shapes = parse_shapes(input_shape)
    with working() as progress:
        result = compare(
            onnx_model, ekm_model, input, preprocessing, input_shapes=shapes, samples=samples, progress=progress
        )
    if json:
        print_json(result)
        return
    rows = [(layer.name, layer.op, layer.sqnr_db, layer.max_abs_error) for layer in result.layers]
    print_table(["tensor", "operator", "SQNR dB", "largest error"], rows)
    print_fields([("output SQNR", f"{result.output_sqnr_db:.2f} dB over {result.samples} samples")])
