# SPDX-License-Identifier: Apache-2.0
"""What each command does, as functions that Python users can call; `edgekit.cli` parses and prints."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is (0 where unknown)."""


def no_progress(what: str, done: int, total: int) -> None:
    """Where nobody listens."""
