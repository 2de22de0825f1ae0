# SPDX-License-Identifier: Apache-2.0
"""edgekit verify"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli import options
from edgekit.cli.output import print_fields, print_json, print_table, working
from edgekit.errors import CheckError

EXAMPLE = "edgekit verify net.ekm --input images.npz --write-certificate net.cert.json"


def command(
    model: options.EkmModel,
    input: Annotated[
        Path | None, typer.Option("--input", metavar="DATA", help="Samples; seeded random ones by default.")
    ] = None,
    backends: Annotated[
        str | None, typer.Option("--backends", metavar="LIST", help="reference, c-<kernel set>, onnxruntime, qemu-<target>, ssh-<host>-<kernel set>; all by default.")
    ] = None,
    samples: options.Samples = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the random samples.")] = 0,
    input_layout: options.InputLayout = None,
    input_mean: options.InputMean = None,
    input_std: options.InputStd = None,
    threads: Annotated[
        str, typer.Option("--threads", metavar="LIST", help="c-* compute the outputs with each of these numbers of threads, too: 2, 1,2,4 or 1-8.")
    ] = "2",
    on: options.On = None,
    certificate: Annotated[
        Path | None, typer.Option("--certificate", metavar="FILE", help="Check that a certificate still holds.")
    ] = None,
    write_certificate: Annotated[
        Path | None, typer.Option("--write-certificate", metavar="FILE", help="Write what was shown.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Compares every backend that can run here, bit by bit, on every 8-bit tensor.

    Exit code 1 where any bit differs; the first tensor that does is named.
    """
    from edgekit.commands.verify import verify_file
    from edgekit.data import Preprocessing

    preprocessing = Preprocessing.parse(input_layout, input_mean, input_std)
    with working() as progress:
        report = verify_file(
            model,
            input,
            preprocessing,
            backends=None if backends is None else [name.strip() for name in backends.split(",")],
            samples=samples,
            seed=seed,
            threads=options.thread_counts(threads),
            on=on,
            certificate=certificate,
            write=write_certificate,
            progress=progress,
        )
    if json:
        print_json(report.as_dict())
    else:
        rows = [(b.name, b.values, b.mismatches, b.tensors, b.digest[:16]) for b in report.backends]
        print_table(["backend", "values compared", "mismatches", "tensors", "digest"], rows)
        print_fields([("samples", report.samples), ("expected", report.expected)])
        for why in dict.fromkeys(report.skipped.values()):
            names = [name for name, reason in report.skipped.items() if reason == why]
            print_fields([("skipped", f"{', '.join(names)}: {why}")])
    if not report.ok:
        raise CheckError(f"{model}: {report.problems()[0]}")
