# SPDX-License-Identifier: Apache-2.0
"""Runs the SConstruct of the checkout or of the installed package."""

from __future__ import annotations

import os
import subprocess
import sys

from edgekit.errors import EdgekitError
from edgekit.sources import source_root


def scons(*arguments: str) -> None:
    """Builds with these options and goals.

    Raises:
        EdgekitError: it fails; the messages of the compiler are on stderr.
    """
    command = [sys.executable, "-m", "SCons", "-Q", f"-j{os.cpu_count() or 1}", "-C", str(source_root()), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        print(done.stdout, end="", file=sys.stderr)
        raise EdgekitError("the build of the C runtime failed; the messages of the compiler stand above")
