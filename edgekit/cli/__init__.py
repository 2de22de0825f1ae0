# SPDX-License-Identifier: Apache-2.0
"""The command line: one file per command, each of which parses, calls the library and prints."""

from __future__ import annotations

import io
import signal
import sys
import warnings
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

INTERRUPTED = 128 + signal.SIGINT
"""Exit code after Ctrl-C, as shells have it."""


class Ended(BaseException):
    """Somebody asks this process to end: temporary files go, then it exits with 128 and the signal's number."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and exits; an interrupt is quiet from the first import on."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:  # `nohup` ignores SIGHUP
            signal.signal(number, _end)
    if not sys.warnoptions:  # Python's own are for programmers
        warnings.simplefilter("ignore")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names may hold what the terminal's encoding lacks
            stream.reconfigure(errors="backslashreplace")
    try:
        from edgekit.cli.app import invoke

        code = invoke(list(sys.argv[1:] if arguments is None else arguments))
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Ended as ended:
        code = ended.args[0]
    sys.exit(code)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """Ends the process, once."""
    signal.signal(number, signal.SIG_IGN)
    raise Ended(128 + number)


__all__ = ["main"]
