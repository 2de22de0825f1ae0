# SPDX-License-Identifier: Apache-2.0
"""Runs the SConstruct of the checkout or of the installed package."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress

from edgekit.errors import EdgekitError
from edgekit.parallel import processors
from edgekit.sources import source_root

GRACE_SECONDS = 10
"""How long compilers may take to end."""


def scons(*arguments: str) -> None:
    """Builds with these options and goals.

    Raises:
        EdgekitError: it fails; the message has the first error, and with EDGEKIT_TRACEBACK set everything that
            was printed is on stderr.
    """
    command = [sys.executable, "-m", "SCons", "-Q", f"-j{processors()}", "-C", str(source_root()), *arguments]
    code, printed = _run(command)
    if code:
        if os.environ.get("EDGEKIT_TRACEBACK"):
            print(printed, end="", file=sys.stderr)
        raise EdgekitError(f"the build of the C runtime failed: {first_error(printed)}; EDGEKIT_TRACEBACK=1 shows all that was printed")


def first_error(printed: str) -> str:
    """The line that says what is wrong: the compiler's or else SCons's first."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    for mark in ("error:", "error", "scons: ***"):
        for line in lines:
            if mark in line:
                return line
    return lines[-1] if lines else "it says nothing"


def _run(command: list[str]) -> tuple[int, str]:
    """Exit code and output. If this process is interrupted, the compilers end, too: they would go on to write into
    folders that are about to be removed."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", start_new_session=True,
    )  # fmt: skip
    try:
        while True:  # Without a timeout, a signal that comes while output is read would wait for the last of it.
            with suppress(subprocess.TimeoutExpired):
                printed, _ = process.communicate(timeout=1)
                return process.returncode, printed
    except BaseException:
        _end(process)
        raise


def _end(process: subprocess.Popen[str]) -> None:
    """Ends the process and those it started; asked to, compilers remove their temporary files."""
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.communicate(timeout=GRACE_SECONDS)
    except BaseException:  # or the user is impatient
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
