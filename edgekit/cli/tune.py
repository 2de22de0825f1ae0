# SPDX-License-Identifier: Apache-2.0
"""edgekit tune"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli import options
from edgekit.cli.output import print_fields, print_json, print_table, working

if TYPE_CHECKING:
    from edgekit.commands.tune import Tuned, TunedLayer

EXAMPLE = "edgekit tune net.ekm --apply net-tuned.ekm"


def command(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A .ekm, or an .onnx, which is converted for it.", show_default=False)
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="TABLE.json", help="The table to write or add to; MODEL.tuned.json by default."),
    ] = None,
    apply: Annotated[
        Path | None, typer.Option("--apply", metavar="MODEL.ekm", help="Also write the .ekm with the choices in it.")
    ] = None,
    kernels: options.Kernels = "auto",
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.01, max=3600, help="Measuring time for each variant of the model.")
    ] = 1.0,
    input_shape: options.InputShape = None,
    on: options.On = None,
    json: options.Json = False,
) -> None:
    """Measures which kernel is the fastest for each layer on this machine or a board, for `convert --tuned`.

    One thread, kernels interleaved. Results are the same bits with any choice.
    """
    from edgekit.commands.tune import tune

    with working() as progress:
        tuned = tune(
            model, output, kernels=kernels, seconds=seconds, apply=apply, input_shapes=input_shape, on=on, progress=progress
        )
    if json:
        print_json(tuned.as_dict())
        return
    print_table(
        ["layer", "count", "default us", "other kernels us", "tuned", "gain us"], [_row(layer) for layer in tuned.layers]
    )
    print_fields(
        [("processor", tuned.processor), ("table", tuned.table)]
        + ([("model", tuned.applied)] if tuned.applied else [])
        + [("result", _result(tuned))]
    )


def _row(layer: TunedLayer) -> tuple[str, int, str, str, str | None, float | None]:
    others = [f"{name} {us:,.2f}" for name, us in layer.us.items() if name != layer.default]
    gains = layer.tuned != layer.default
    return (
        layer.layer,
        layer.count,
        f"{layer.default} {layer.us[layer.default]:,.2f}",
        ", ".join(others) or "-",
        layer.tuned if gains else None,
        layer.gain_us if gains else None,
    )


def _result(tuned: Tuned) -> str:
    """What there is to gain, in words."""
    if tuned.tuned_us is None:
        return f"nothing to gain: the default kernels are the fastest or tie; best run {tuned.default_us:,.2f} us"
    measured = f"best runs {tuned.default_us:,.2f} us by default, {tuned.tuned_us:,.2f} us tuned"
    if not tuned.kept:
        return f"nothing to gain: the whole model was no faster, so no choice is kept; {measured}"
    saved = 1 - tuned.ratio
    share = f"{saved:.1%} less" if saved >= 0.001 else "under 0.1% less"
    return f"{measured}, {share}; the layers' sum: {tuned.gain_us:,.2f} us less"
