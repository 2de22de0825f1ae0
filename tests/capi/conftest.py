# SPDX-License-Identifier: Apache-2.0
"""Builds of the C runtime for tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.parallel import processors
from tests.capi.net import Library


def scons(root: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs SCons with a build folder of its own."""
    command = [sys.executable, "-m", "SCons", "-C", str(root), "-Q", f"-j{processors()}", f"build_dir={folder}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def built(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with libedgekit.a, libedgekit.so, edgekit-run and include/, built without warnings."""
    folder = tmp_path_factory.mktemp("build")
    result = scons(root, folder, "werror=yes")
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


@pytest.fixture(scope="session")
def library() -> Library:
    """Processor detection and the thread pool."""
    return Library()
