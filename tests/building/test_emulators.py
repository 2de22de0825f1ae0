# SPDX-License-Identifier: Apache-2.0
"""The processors on which kernel sets are verified refuse what their sets do not have.

Without this, an instruction from beyond a set would pass unseen. The last column runs where it must, so that
the test knows the instruction.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edgekit.building.targets import read_target, read_targets

SIGILL = -4
BEYOND = [
    ("aarch64", "scalar", r".arch armv8.2-a+dotprod\nsdot v0.4s, v1.16b, v2.16b", "cortex-a76"),
    ("aarch64", "neon", r".arch armv8.2-a+dotprod\nsdot v0.4s, v1.16b, v2.16b", "cortex-a76"),
    ("aarch64", "neon_dotprod", r".arch armv8.2-a+i8mm\nsmmla v0.4s, v1.16b, v2.16b", "max"),
    ("arm", "scalar", r".fpu neon\nvadd.i8 d0, d1, d2", "cortex-a8"),
    ("arm", "scalar", r".fpu vfpv4-d16\nvfma.f32 s0, s1, s2", "cortex-a7"),
    ("arm", "neon", r".fpu vfpv4-d16\nvfma.f32 s0, s1, s2", "cortex-a7"),
    ("arm", "neon", r".arch armv7ve\nsdiv r0, r1, r2", "cortex-a7"),
    ("x86-64", "scalar", "pshufb %xmm0, %xmm1", "Penryn"),
    ("x86-64", "sse41", "pcmpgtq %xmm0, %xmm1", "Nehalem"),
    ("x86-64", "sse41", "vpaddb %xmm0, %xmm1, %xmm2", "Haswell"),
    ("x86-64", "avx2", "vfmadd231ps %ymm0, %ymm1, %ymm2", "Haswell"),
    ("x86-64", "avx2", "andn %eax, %ecx, %edx", "Haswell"),
]


@pytest.mark.parametrize(("name", "kernel_set", "instruction", "has_it"), BEYOND)
def test_newer_instructions_are_refused(
    root: Path, tmp_path: Path, name: str, kernel_set: str, instruction: str, has_it: str
) -> None:
    target = read_target(root, name)
    toolchain = target.toolchain()
    if toolchain.family != "gcc" or shutil.which(target.emulator[0]) is None:
        pytest.skip("the distribution's compiler or QEMU is not installed")
    (tmp_path / "main.c").write_text(f'int main(void) {{ __asm__ volatile("{instruction}"); return 0; }}\n')
    flags = [*toolchain.flags, *(["-marm"] if name == "arm" else [])]
    subprocess.run([*toolchain.program_cc, *flags, "main.c", "-o", "program"], cwd=tmp_path, check=True)

    def run(processor: str) -> int:
        command = [target.emulator[0], "-cpu", processor, str(tmp_path / "program")]
        return subprocess.run(command, capture_output=True, check=False).returncode

    assert run(has_it) == 0
    assert run(target.verify[kernel_set]) == SIGILL


def test_every_processor_is_tried(root: Path) -> None:
    """But those of sets beyond which QEMU has nothing."""
    verified = {(target.name, name) for target in read_targets(root) for name in target.verify}
    tried = {(target, name) for target, name, *_ in BEYOND}
    assert verified - tried == {("aarch64", "neon_i8mm"), ("riscv64", "scalar")}
    assert tried <= verified
