# SPDX-License-Identifier: Apache-2.0
"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, nothing else.")]

OnnxModel = Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="The trained float model.", show_default=False)]
EkmModel = Annotated[Path, typer.Argument(metavar="MODEL.ekm", help="The converted model.", show_default=False)]
AnyModel = Annotated[
    Path, typer.Argument(metavar="MODEL", help="A .ekm, or an .onnx to run in ONNX Runtime.", show_default=False)
]

Samples = Annotated[int | None, typer.Option("--samples", metavar="N", min=1, help="Use at most N samples.")]
Threads = Annotated[int, typer.Option("--threads", metavar="N", min=1, help="Threads of the C runtime.")]
Kernels = Annotated[str, typer.Option("--kernels", metavar="NAME", help="Kernel set: auto, scalar, sse41, avx2...")]
On = Annotated[
    str | None,
    typer.Option("--on", metavar="ssh://[USER@]HOST[:PORT]", help="A board with Linux; its runtime is built here and copied there."),
]

Calibration = Annotated[
    Path | None,
    typer.Option("--calibration", metavar="DATA", help="Calibration data: .npz, .npy or a folder of images."),
]
InputLayout = Annotated[
    str | None,
    typer.Option("--input-layout", metavar="nchw|nhwc", help="DATA is raw, its images have this layout."),
]
InputMean = Annotated[
    str | None,
    typer.Option("--input-mean", metavar="M[,M...]", help="DATA is raw; subtracted, one number or one per channel."),
]
InputStd = Annotated[
    str | None,
    typer.Option("--input-std", metavar="S[,S...]", help="DATA is raw; the difference is divided by it."),
]
InputShape = Annotated[
    list[str] | None,
    typer.Option("--input-shape", metavar="NAME=1,3,224,224", help="Pins symbolic dimensions; repeatable."),
]


def thread_counts(text: str) -> tuple[int, ...]:
    """Numbers of threads: "2", "1,2,4" or "1-8".

    Raises:
        typer.BadParameter: it is no such list.
    """
    counts: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        last = last if dash else first
        if not all(bound.isdecimal() and len(bound) < 5 for bound in (first, last)) or int(first) > int(last):
            raise typer.BadParameter(f"'{text}' is no list such as 2, 1,2,4 or 1-8")
        counts += range(int(first), int(last) + 1)
    return tuple(counts)
