# SPDX-License-Identifier: Apache-2.0
"""edgekit inspect"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from edgekit.cli import options
from edgekit.cli.output import print_fields, print_json, print_table

EXAMPLE = "edgekit inspect net.ekm --tensors --target cortex-m4"


def command(
    model: options.EkmModel,
    tensors: Annotated[bool, typer.Option("--tensors", help="Also list the tensors and their places.")] = False,
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="NAME", help="Also flash, RAM and stack of its firmware on this microcontroller."),
    ] = None,
    json: options.Json = False,
) -> None:
    """What is in the file: header, tensors, operators, memory plan, cost of each operator."""
    from edgekit.commands.inspect import inspect

    result = inspect(model, target)
    if json:
        print_json(result)
        return
    print_fields(
        [
            ("model", model),
            ("format version", result["format_version"]),
            ("features", ", ".join(result["features"]) or "none"),
            ("bytes", f"{result['bytes']:,}, of which weights {result['weight_bytes']:,}"),
            ("arena", f"{result['arena_bytes']:,} bytes, lower bound {result['arena_lower_bound_bytes']:,}"),
            ("scratch", f"{result['scratch_bytes']:,} bytes per thread"),
            ("MACs", result["macs"]),
        ]
    )
    if target is not None:
        print_fields(_firmware(result["firmware"]))
    ports = [(role, p["name"], p["dtype"], p["shape"]) for role in ("inputs", "outputs") for p in result[role]]
    print_table(["", "name", "type", "shape"], [(role.rstrip("s"), *rest) for role, *rest in ports])
    raw = [
        (p["name"], p["raw_dtype"], p["raw_shape"], p["raw_layout"] or "", _numbers(p["raw_mean"]), _numbers(p["raw_std"]))
        for p in result["inputs"]
        if p["raw_dtype"]
    ]
    if raw:
        print_table(["raw data for", "type", "shape", "layout", "mean", "std"], raw)
    ops = [(i, op["op"], op["name"], op["shape"], op["macs"], op["weight_bytes"]) for i, op in enumerate(result["ops"])]
    print_table(["#", "operator", "name", "output", "MACs", "weight bytes"], ops)
    if tensors:
        rows = [
            (t["name"], t["dtype"], t["shape"], t["region"], t["offset"], t["bytes"], t["scale"], t["zero_point"])
            for t in result["tensors"]
        ]
        print_table(["tensor", "type", "shape", "region", "offset", "bytes", "scale", "zero point"], rows)


def _numbers(values: list[float]) -> str:
    return ", ".join(f"{value:.9g}" for value in values)


def _firmware(made: dict[str, Any]) -> list[tuple[str, str]]:
    """Bytes of the linked image."""
    sizes = made["sizes"]
    return [
        ("firmware", f"{made['target']}: {', '.join(dict.fromkeys(name for name in made['kernels'] if name))}"),
        (
            "flash",
            f"{sizes['flash_bytes']:,} bytes: code {sizes['code_bytes']:,}, model {sizes['model_bytes']:,}, "
            f"self-test {sizes['selftest_bytes']:,}",
        ),
        (
            "RAM",
            f"{sizes['ram_bytes']:,} bytes: memory {sizes['memory_bytes']:,} (arena {made['arena_bytes']:,}, "
            f"scratch {made['scratch_bytes']:,}), other data {sizes['data_bytes']:,}, stack {sizes['stack_bytes']:,} "
            f"(bound {made['stack_bound']:,}, used {made['stack_used']:,})",
        ),
    ]
