# SPDX-License-Identifier: Apache-2.0
"""Files that several tests damage."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.format.writer import Packing, write
from edgekit.plan import plan
from edgekit.program import Program
from tests import random_programs as programs


@pytest.fixture
def small() -> Program:
    """A few operators, each with constants of another kind."""
    b = programs.Builder(np.random.default_rng(0), "small")
    x = b.input("image", (1, 4, 4, 2))
    x = b.depthwise(b.conv2d(x))
    b.output("scores", b.softmax(b.dense(b.reshape(b.prelu(x)))))
    program = b.finish()
    plan(program)
    return program


@pytest.fixture
def small_file(small: Program) -> bytes:
    return write(small, packing=Packing(tile=(4, 4)))
