# SPDX-License-Identifier: Apache-2.0
"""edgekit bench"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgekit.cli import options
from edgekit.cli.output import print_fields, print_json, print_table, working
from edgekit.errors import InputError

PEERS_HELP = (
    "Peers in the same run: onnxruntime[:FILE.onnx], litert:FILE.tflite; openvino, ncnn, mnn, executorch, each [:FILE.onnx] "
    "quantized by its own tool, once `python -m edgekit.bench.environments NAME` has installed it."
)
EXAMPLE = "edgekit bench net.ekm --vs onnxruntime,litert:net.tflite --profile"


def command(
    model: options.AnyModel,
    threads: options.Threads = 1,
    kernels: options.Kernels = "auto",
    vs: Annotated[
        str | None,
        typer.Option("--vs", metavar="LIST", help=PEERS_HELP),
    ] = None,
    profile: Annotated[bool, typer.Option("--profile", help="Also time each operator.")] = False,
    on: options.On = None,
    seconds: Annotated[float, typer.Option("--seconds", min=0.01, max=3600, help="Measuring time for each engine.")] = 1.0,
    json: options.Json = False,
) -> None:
    """Latency, with peers interleaved in the same run.

    A .ekm runs in the C runtime, an .onnx in ONNX Runtime.
    """
    from edgekit.bench import bench

    if profile and model.suffix != ".ekm":
        raise InputError(f"{model}: --profile shows the operators of a .ekm")
    if on is not None:
        _on_board(on, model, threads, kernels, vs, profile, seconds, json)
        return
    peers = [] if vs is None else vs.split(",")
    with working() as progress:
        timings = bench(model, threads=threads, kernels=kernels, vs=peers, seconds=seconds, progress=progress)
    result: dict[str, Any] = {"results": timings, "gmacs_per_s": None}
    if model.suffix == ".ekm":
        from edgekit.commands.inspect import inspect

        macs = inspect(model)["macs"]
        result["gmacs_per_s"] = macs / (timings[0].median_us * 1e3)
        if profile:
            from edgekit.bench.profile import profile_ops

            result["profile"] = profile_ops(model, kernels=kernels, threads=threads)
    if json:
        print_json(result)
        return
    _print(result, timings)


def _on_board(
    on: str, model: Path, threads: int, kernels: str, vs: str | None, profile: bool, seconds: float, json: bool
) -> None:
    """The same on a remote board, by its clock."""
    from edgekit.bench.board import bench_on
    from edgekit.commands.inspect import inspect

    if model.suffix != ".ekm" or vs is not None:
        raise InputError(f"{model}: a board measures a .ekm, without --vs")
    macs = inspect(model)["macs"]
    with working() as progress:
        measured = bench_on(on, model, threads=threads, kernels=kernels, seconds=seconds, profile=profile, progress=progress)
    timing = measured.timing
    result: dict[str, Any] = {"results": [timing], "gmacs_per_s": macs / (timing.median_us * 1e3)}
    result["on"] = {name: getattr(measured, name) for name in ("board", "target", "processors", "kernels")}
    if profile:
        result["profile"] = measured.profile
    if json:
        print_json(result)
        return
    _print(result, [timing])
    print_fields(list(result["on"].items()))


def _print(result: dict[str, Any], timings: list[Any]) -> None:
    own = timings[0].median_us
    rows = [
        (t.engine, t.median_us, t.min_us, t.p99_us, t.load_us, t.first_run_us, t.median_us / own) for t in timings
    ]
    print_table(["engine", "median us", "min us", "p99 us", "load us", "first run us", "ratio"], rows)
    if result["gmacs_per_s"] is not None:
        print_fields([("speed", f"{result['gmacs_per_s']:.2f} GMAC/s")])
    if "profile" in result:
        ops = [
            (row.name, row.op, row.kernel, row.why, row.median_us, f"{row.share:.1%}", row.gmacs_per_s)
            for row in result["profile"]
        ]
        print_table(["operator", "kind", "kernel", "why", "median us", "share", "GMAC/s"], ops)
