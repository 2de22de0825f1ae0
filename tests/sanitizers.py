# SPDX-License-Identifier: Apache-2.0
"""Compilers without the libraries of their sanitizers."""

from __future__ import annotations

import re

import pytest


def skip_without_sanitizers(failed: bool, errors: str) -> None:
    """Skips the test if a build with address and undefined behaviour sanitizers failed because the linker has not found those."""
    if failed and re.search(r"cannot find .*(asan|ubsan)", errors):
        pytest.skip("the compiler has no sanitizers")
