# SPDX-License-Identifier: Apache-2.0
"""Single kernels on emulated microcontrollers, against the scalar ones of this machine.

Those of the Cortex-M sets on every board that has them; on boards without FPU every scalar kernel that rounds, as they
do it by integers. EDGEKIT_BOARD_VALUES sets the output values per kernel and board, EDGEKIT_SEED the first case.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import IO

import pytest

from edgekit.building.targets import Target, kernel_files
from edgekit.firmware import toolchain
from edgekit.firmware.boards import board, linker_script
from kernels.cases import case
from kernels.driver import FIELDS, TIMEOUT, Driver, compare_with_scalar
from kernels.harness import CSRC, ROOT, Kernel, first_seed, listed_kernels, scalar_of
from tests.firmware.boards import ready

VALUES = int(float(os.environ.get("EDGEKIT_BOARD_VALUES", "1e6")))
SEED = first_seed()
WITHOUT_FPU = ["cortex-m0plus", "cortex-m3"]
BOARDS = {
    "cortexm_v6m": WITHOUT_FPU,
    "cortexm_dsp": ["cortex-m4", "cortex-m7", "cortex-m33"],
    "cortexm_mve": ["cortex-m55"],
}
ROUNDING = ["conv2d", "depthwise", "matmul", "add", "mul", "average_pool", "prelu", "softmax", "layer_norm", "quantize"]
RUNS = [(name, stem, kind) for stem, kind, its_set in listed_kernels() for name in BOARDS.get(its_set, [])]
RUNS += [(name, f"{kind}_scalar", kind) for name in WITHOUT_FPU for kind in ROUNDING]
POOL_BYTES = 3 << 19


class BoardDriver(Driver):
    """The driver as a bare-metal image; requests and replies are files."""

    def _execute(self, requests: bytes, replies: IO[bytes]) -> str:
        with tempfile.TemporaryDirectory(prefix="edgekit-") as name:
            folder = Path(name)
            (folder / "requests").write_bytes(requests)
            done = subprocess.run(
                self._command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, check=False, timeout=TIMEOUT,
            )  # fmt: skip
            if (folder / "replies").exists():
                replies.write((folder / "replies").read_bytes())
        replies.seek(0)
        return f"{self._command[0]} ended with {done.returncode}: {done.stdout.strip()}"


def link(target: Target, kernels: list[Path], flags: list[str], folder: Path) -> BoardDriver:
    """The driver with these kernels and the list of them, linked for a board in `folder`."""
    (folder / "kernel_fields.h").write_text(FIELDS.header())
    (folder / "board.ld").write_text(linker_script(target, 16384))
    sources = [*kernels, *(CSRC / "firmware" / file for file in ("start.c", "semihosting.c"))]
    sources += [ROOT / "tests" / "kernels" / file for file in ("driver.c", "driver_semihosting.c")]
    command = [*toolchain.compile_command(target), *flags, *toolchain.LINK_FLAGS]
    command += [f"-DDRIVER_POOL_BYTES={POOL_BYTES}", "-DDRIVER_POOL_ALIGN=64", f"-I{folder}", "-T", str(folder / "board.ld")]
    toolchain.run([*command, *map(str, sources), "-o", str(folder / "driver.elf")])
    return BoardDriver([*target.emulator, str(folder / "driver.elf")])


def build(name: str, folder: Path) -> BoardDriver:
    """The driver for a board with all its kernels, in `folder`."""
    target = board(name)
    kernels = [CSRC / "kernels" / "kernel_list.c"]
    for kernel_set in target.kernels:
        kernels += kernel_files(ROOT, kernel_set, target.arch)[0]
    flags = [*(f"-DEK_WITH_{s.upper()}" for s in target.kernels), f"-I{CSRC / 'include'}", f"-I{CSRC}"]
    return link(target, kernels, flags, folder)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], BoardDriver]:
    """The driver for each board, built when it is first asked for."""
    return cache(lambda name: build(name, tmp_path_factory.mktemp(f"driver-{name}")))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "stem", "kind"), RUNS)
def test_board_kernel(
    name: str, stem: str, kind: str, kernels: list[Kernel], driver: Callable[[str], BoardDriver]
) -> None:
    ready(name)
    machine = driver(name)
    scalar = scalar_of(kind, kernels)
    print(f"EDGEKIT_SEED={SEED}")
    values, cases = compare_with_scalar(machine, machine.kernels[stem], scalar, lambda seed: case(kind, seed, stem), SEED, VALUES)
    print(f"{stem} on {name}: {values} values in {cases} cases")
