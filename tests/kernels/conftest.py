# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the kernel tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernels.harness import Kernel, build_library, load_kernels


@pytest.fixture(scope="session")
def kernel_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shared library of all kernels, built from the sources."""
    return build_library(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(scope="session")
def kernels(kernel_library: Path) -> list[Kernel]:
    """All kernels of the list."""
    return load_kernels(kernel_library)
