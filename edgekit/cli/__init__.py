# SPDX-License-Identifier: Apache-2.0
"""The command line: one file per command, each of which parses, calls the library and prints."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from typing import NoReturn

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 + SIGINT."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and exits; an interrupt is quiet from the first import on."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names may hold what the terminal's encoding lacks
            stream.reconfigure(errors="backslashreplace")
    try:
        from edgekit.cli.app import invoke

        sys.exit(invoke(list(sys.argv[1:] if arguments is None else arguments)))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


__all__ = ["main"]
