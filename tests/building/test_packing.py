# SPDX-License-Identifier: Apache-2.0
"""A target's files hold weights in the order of the kernels that will read them: the runtime needs no scratch
to decode them, as its scratch is the same when it may make a copy in that order."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgekit import program as p
from edgekit.building.cache import cached_build
from edgekit.building.targets import read_target
from edgekit.commands.build import weight_packing
from edgekit.format.writer import Packing, write
from edgekit.plan import plan
from edgekit.sources import source_root
from tests.support import Build, quant

pytestmark = pytest.mark.slow

BOARDS = {"rpi4": "neon", "rpi5": "neon_dotprod", "rpi2-armv7": "neon"}

# image and channels, output channels, kernel, stride, pad
CONVOLUTIONS = [
    ((32, 32, 16), 16, 3, 1, 1),  # Winograd
    ((8, 8, 64), 64, 3, 1, 1),
    ((8, 8, 128), 64, 3, 1, 1),
    ((8, 8, 136), 64, 3, 1, 1),  # too deep for it
    ((7, 7, 64), 64, 3, 1, 1),  # too few whole tiles
    ((8, 8, 12), 16, 3, 1, 1),
    ((8, 8, 16), 24, 3, 1, 1),
    ((16, 16, 16), 32, 3, 2, 1),
    ((96, 96, 3), 8, 3, 2, 1),
    ((48, 48, 8), 16, 1, 1, 0),  # few values to a window
    ((16, 16, 16), 32, 1, 2, 0),
    ((16, 16, 17), 32, 1, 1, 0),
    ((2, 4, 8), 16, 1, 1, 0),
    ((1, 7, 8), 16, 1, 1, 0),  # and few windows
    ((25, 5, 64), 64, 1, 1, 0),
    ((9, 9, 1), 8, 4, 2, 1),
]
ROWS_DEPTH_OUTPUTS = [(1, 640, 128), (1, 8, 3), (7, 16, 8), (8, 16, 8), (20, 64, 12)]


def convolution(image: tuple[int, int, int], outputs: int, size: int, stride: int, pad: int) -> p.Program:
    b = Build()
    h, w, depth = image
    out = [(n + 2 * pad - size) // stride + 1 for n in (h, w)]
    x = b.input((1, h, w, depth), quant(0.1))
    values = np.arange(outputs * size * size * depth).astype(np.int8)
    weights = b.constant(values.reshape(outputs, size, size, depth))
    fields = {"strides": (stride, stride), "pads": (pad,) * 4, "lo": -128, "hi": 127}
    y = b.op(p.Conv2D, [x, weights], (1, *out, outputs), quant(10.0), **scales(outputs), **fields)
    return b.finish(y)


def dense(rows: int, depth: int, outputs: int) -> p.Program:
    b = Build()
    x = b.input((rows, depth), quant(0.1))
    weights = b.constant(np.arange(outputs * depth).astype(np.int8).reshape(outputs, depth))
    y = b.op(p.Dense, [x, weights], (rows, outputs), quant(10.0), **scales(outputs), lo=-128, hi=127)
    return b.finish(y)


def scales(outputs: int) -> dict[str, np.ndarray]:
    return {"bias": np.zeros(outputs, np.int32), "weight_scale": np.ones(outputs, np.float32)}


LAYERS = [*(convolution(*layer) for layer in CONVOLUTIONS), *(dense(*layer) for layer in ROWS_DEPTH_OUTPUTS)]


@pytest.fixture(params=BOARDS)
def board(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    emulator = read_target(source_root(), name).emulator[0]
    if shutil.which(emulator) is None:
        pytest.skip(f"{emulator} is not installed: apt install qemu-user")
    return name


def scratch(board: str, model: Path, *options: str) -> int:
    """Bytes of scratch, as the board's own program says."""
    target = read_target(source_root(), board)
    runner = cached_build(target, target.toolchain(), "runner") / "edgekit-run"
    command = [*target.emulator, runner, model, "--info", "--kernels", BOARDS[board], *options]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    (number,) = re.findall(r"scratch (\d+) bytes", done.stdout, re.M)
    return int(number)


def is_decoded(board: str, program: p.Program, packing: Packing, folder: Path) -> bool:
    """Whether the runtime decodes the file's weights in every run, if it may not copy them."""
    plan(program)
    path = folder / "model.ekm"
    write(program, path, packing=packing)
    return scratch(board, path, "--repack") != scratch(board, path)


def test_no_layer_is_decoded(board: str, tmp_path: Path) -> None:
    packing = weight_packing(board)
    decoded = [i for i, program in enumerate(LAYERS) if is_decoded(board, program, packing, tmp_path)]
    assert decoded == []


def test_layers_in_rows_are(board: str, tmp_path: Path) -> None:
    """So that the other test can fail."""
    assert is_decoded(board, LAYERS[0], Packing(), tmp_path)
