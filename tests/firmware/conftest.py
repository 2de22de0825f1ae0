# SPDX-License-Identifier: Apache-2.0
"""What tests of firmware share."""

from __future__ import annotations

import pytest

from edgekit.building.targets import Target
from edgekit.firmware.boards import board_names
from tests.firmware.boards import ready


@pytest.fixture(params=board_names())
def target(request: pytest.FixtureRequest) -> Target:
    """Every board, one after the other."""
    return ready(request.param)


@pytest.fixture
def any_target() -> Target:
    """One board, where it does not matter which."""
    return ready("cortex-m3")
