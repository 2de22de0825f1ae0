# SPDX-License-Identifier: Apache-2.0
"""Boards, where their compiler and emulator are."""

from __future__ import annotations

import pytest

from edgekit.building.targets import Target
from edgekit.firmware import toolchain
from edgekit.firmware.boards import board


def ready(name: str) -> Target:
    """The board of that name, if programs can be linked for it and run here."""
    found = board(name)
    reason = toolchain.missing(found) or toolchain.missing_emulator(found)
    if reason is not None:
        pytest.skip(reason)
    return found
