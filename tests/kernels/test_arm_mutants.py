# SPDX-License-Identifier: Apache-2.0
"""The cases catch what they are there for, on Arm: each mutated kernel must fail under emulation.

As test_mutants.py, but the driver of one kernel is built for each mutant and runs where the kernel's set does.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgekit.building.targets import Target, TargetError, kernel_files, read_targets
from edgekit.firmware import toolchain
from kernels.cases import case
from kernels.driver import FIELDS, Driver, compare_with_scalar
from kernels.harness import ROOT, Kernel, listed_kernels, scalar_of
from kernels.mutants import Passage
from kernels.test_boards import link
from tests.firmware.boards import ready

VALUES = 2_000_000
"""A mutant that survives so many output values is a failure of the cases."""
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Mutant(Passage):
    """A passage of the kernel that `file` is, which must differ on each of `targets`."""

    targets: tuple[str, ...]

    @property
    def kernel(self) -> str:
        return Path(self.file).stem

    @property
    def kind(self) -> str:
        return next(kind for name, kind, _ in listed_kernels() if name == self.kernel)

    @property
    def set(self) -> str:
        return next(its_set for name, _, its_set in listed_kernels() if name == self.kernel)


NEON = ("aarch64", "arm")
A64 = ("aarch64",)
M4 = ("cortex-m4",)
M55 = ("cortex-m55",)
MUTANTS = [
    Mutant("maximum of whole blocks", "arm/softmax_neon.c", "    for (int32_t i = BLOCK; i < count; i += BLOCK)\n        greatest",
           "    for (int32_t i = BLOCK; i + BLOCK <= count; i += BLOCK)\n        greatest", NEON),
    Mutant("half of the table", "arm/softmax_neon.c", "table[(uint8_t)(low >> 8)]", "table[low >> 8 & 127]", NEON),
    Mutant("sum of what stood there", "arm/softmax_neon.c", "        vst1q_u32(t + count + i, none);", "        (void)none;", NEON),
    Mutant("block behind the row", "arm/softmax_neon.c", "return ek_min(i, count - BLOCK);", "return ek_min(i, count);", A64),
    Mutant("short rows filled up with more than they have", "arm/softmax_neon.c", "memset(buffer, x[0], BLOCK)",
           "memset(buffer, 127, BLOCK)", NEON),
    Mutant("values of the last block twice", "arm/layer_norm_neon.c", "vandq_s8(vld1q_s8(x + p->c - BLOCK), vld1q_s8(keep + rest))",
           "vld1q_s8(x + p->c - BLOCK)", NEON),
    Mutant("last block read when it is written", "arm/layer_norm_neon.c", "normalize(&f, last_block,", "normalize(&f, vld1q_s8(x + last),",
           NEON),
    Mutant("squares in 16 bits", "arm/layer_norm_neon.c", """    s.squares = vpadalq_s16(s.squares, mull_low(x, x));
    s.squares = vpadalq_s16(s.squares, mull_high(x, x));""",
           "    s.squares = vpadalq_s16(s.squares, mlal_low(mull_high(x, x), x, x));", NEON),
    Mutant("fused multiply-add", "arm/layer_norm_neon.c", "plus(times_each(normal, load_floats(gain)), load_floats(offset))",
           """((float16){{vfmaq_f32(vld1q_f32(offset), normal.v[0], vld1q_f32(gain)),
                         vfmaq_f32(vld1q_f32(offset + 4), normal.v[1], vld1q_f32(gain + 4)),
                         vfmaq_f32(vld1q_f32(offset + 8), normal.v[2], vld1q_f32(gain + 8)),
                         vfmaq_f32(vld1q_f32(offset + 12), normal.v[3], vld1q_f32(gain + 12))}})""", A64),
    Mutant("rows shorter than a block", "arm/layer_norm_neon.c", "return p->c >= BLOCK;", "return p->c >= BLOCK - 1;", NEON),
    Mutant("behind a row what stood there", "arm/matmul_neon.c",
           "    memset(to + p->k, 0, (size_t)(row_steps(p) - p->k) * sizeof *to);", "", NEON),
    Mutant("columns that do not exist", "arm/matmul_neon.c", "(ptrdiff_t)ek_min(j, count - 1) * p->k", "(ptrdiff_t)j * p->k", NEON),
    Mutant("dropped steps", "arm/matmul_neon.c", "    if (whole < p->k) {", "    if (whole < p->k - 7) {", NEON),
    Mutant("store of four columns", "arm/matmul_neon.c", "    if (count >= COLUMNS)\n", "    if (count > 0)\n", NEON),
    Mutant("sign of a column's term", "aarch64/matmul_dotprod.c", "vmlsq_n_s32(constant,", "vmlaq_n_s32(constant,", A64),
    Mutant("zero points' product", "aarch64/matmul_dotprod.c", "(uint32_t)(p->a_zero * p->b_zero)", "0u", A64),
    Mutant("row's term of whole vectors", "aarch64/matmul_dotprod.c", "vdotq_s32(vdupq_n_s32(0), vld1q_s8(tail), ones)",
           "vdupq_n_s32(0 * tail[0])", A64),
    Mutant("read behind b", "aarch64/matmul_dotprod.c", "load_block(b + (k + i) * (ptrdiff_t)p->n, columns)",
           "vld1q_s8(b + (k + i) * (ptrdiff_t)p->n)", A64),
    Mutant("read behind a", "aarch64/matmul_dotprod.c", "k >= BLOCK ? a[i] : block->tail[i]", "a[i]", A64),
    Mutant("first panel always", "aarch64/matmul_dotprod.c", "first = to->first + n;", "first = n;", A64),
    Mutant("rows filled up with zeros", "cortexm/matmul_dsp.c", "load_some(a + k, p->k - k, filler)", "load_some(a + k, p->k - k, 0)", M4),
    Mutant("column that does not exist", "cortexm/matmul_dsp.c", "ek_min(n + 1, columns->count - 1)", "n + 1", M4),
    Mutant("dropped step", "cortexm/matmul_dsp.c", "    if (depth % STEP != 0)\n", "    if (depth % STEP > 1)\n", M4),
    Mutant("row that does not exist", "cortexm/matmul_dsp.c", "        if (rows > 1) {\n", "        if (rows > 0) {\n", M4),
    Mutant("maximum of zero or more", "cortexm/softmax_mve.c", '"    mvn r4, #127\\n"', '"    movs r4, #0\\n"', M55),
    Mutant("truncation", "cortexm/softmax_mve.c", "vcvtn.s32.f32", "vcvt.s32.f32", M55),
    Mutant("signed table", "cortexm/softmax_mve.c", "    vldrw.u32 q1, [r3, q0, uxtw #2]\\n",
           "    vldrw.u32 q1, [r3, q0, uxtw #2]\\n\"\n                \"    vshl.i32 q1, q1, #8\\n\"\n"
           "                \"    vshr.s32 q1, q1, #8\\n", M55),
    Mutant("no lower clamp", "cortexm/softmax_mve.c", '"    vmax.s32 q1, q1, q4\\n"', '""', M55),
    Mutant("store of a value more", "cortexm/softmax_mve.c", '"    dlstp.32 lr, r9\\n"', '"    add r9, r9, #1\\n    dlstp.32 lr, r9\\n"',
           M55),
    Mutant("squares of the values alone", "cortexm/layer_norm_mve.c", "vmladava.s8 r6, q0, q0", "vaddva.s8 r6, q0", M55),
    Mutant("zero point before rounding", "cortexm/layer_norm_mve.c", '"    vcvtn.s32.f32 q0, q0\\n"\n                "    vqadd.s32 q0, q0, r8\\n"',
           '"    vdup.32 q1, r8\\n    vcvt.f32.s32 q1, q1\\n    vadd.f32 q0, q0, q1\\n    vcvtn.s32.f32 q0, q0\\n"', M55),
    Mutant("gain of the first values", "cortexm/layer_norm_mve.c", "vldrw.32 q1, [r3], #16", "vldrw.32 q1, [r3]", M55),
    Mutant("no sum of a", "cortexm/matmul_mve.c", "const uint32_t sum = p->b_zero != 0 ?", "const uint32_t sum = p->b_zero > 0 ?", M55),
    Mutant("columns behind whole blocks", "cortexm/matmul_mve.c", "columns->columns % COLUMNS != 0)", "columns->columns % COLUMNS > 1)", M55),
    Mutant("transposed as it lies", "cortexm/matmul_mve.c", "if (!p->b_transposed || columns < COLUMNS)", "if (columns < COLUMNS)", M55),
    Mutant("second row always", "cortexm/matmul_mve.c", "            if (i + 1 < rows)\n", "            if (i < rows)\n", M55),
    Mutant("second pixel's columns", "cortexm/conv2d_paired_dsp.c", "last_tap = step + (p->kernel_w", "last_tap = (p->kernel_w", M4),
    Mutant("rows below the input", "cortexm/conv2d_paired_dsp.c", "if (h >= 0 && h < p->in.h) {", "if (h >= 0) {", M4),
    Mutant("lines outside are zero", "cortexm/conv2d_paired_dsp.c", "*x++ = zero;", "*x++ = 0;", M4),
    Mutant("short lines without their end", "cortexm/conv2d_paired_dsp.c", '"    str lr, [r1, r5]\\n"', '""', M4),
    Mutant("windows in place in the padding", "cortexm/conv2d_paired_dsp.c", """ && is_inside(p, -p->pad_top, -p->pad_left)
        && is_inside(p, (p->out.h - 1) * p->stride_h - p->pad_top,
                     (p->out.w - 1) * p->stride_w - p->pad_left);""", ";", M4),
    Mutant("whole tiles behind the row", "cortexm/conv2d_paired_dsp.c", "ek_min(most, col_end - col)", "most", M4),
    Mutant("unsigned odd channels", "cortexm/conv2d_paired_dsp.c", 'asr #8\\n"', 'lsr #8\\n"', M4),
    Mutant("clamp of the type only", "cortexm/conv2d_paired_dsp.c", "if (!ek_dsp_is_whole(&p->clamp))", "if (0)", M4),
    Mutant("single output as two", "cortexm/depthwise_dsp.c", '"    vmov s5, r8\\n"', '""', M4),
    Mutant("strips in six bits", "cortexm/depthwise_dsp.c", ".strips = count / 2,", ".strips = count / 2 & 63,", M4),
    Mutant("position behind the line", "cortexm/depthwise_dsp.c", "at >= 0 && at < along->in;", "at >= 0 && at <= along->in;", M4),
    Mutant("line below the input", "cortexm/depthwise_dsp.c", "v < part->lines; v++)", "v < part->lines - 1; v++)", M4),
    Mutant("products beyond 16 bits", "cortexm/depthwise_dsp.c", "< 32000.0f", "< 1e30f", M4),
    Mutant("truncation", "cortexm/depthwise_dsp.c", "vcvtr.s32.f32 s1, s1", "vcvt.s32.f32 s1, s1", M4),
    Mutant("columns of the whole image", "cortexm/depthwise_dsp.c", ".plane = l->columns * column,", ".plane = columns_of(&l->along, count) * column,", M4),
]  # fmt: skip
RUNS = [(mutant, target) for mutant in MUTANTS for target in mutant.targets]


def mutated(mutant: Mutant, folder: Path) -> list[Path]:
    """The sources of the mutant and of the scalar kernel that it may hand the rest to, which alone are in the list."""
    root = mutant.copied(folder)
    lines = re.findall(r"^EK_KERNEL\(.*?\)$", (root / "kernels.def").read_text(), re.M)
    kept = [line for line in lines if re.search(rf", ({mutant.kernel}|{mutant.kind}_scalar),", line)]
    assert len(kept) == 2
    (root / "kernels.def").write_text("\n".join([*kept, ""]))
    return [root / mutant.file, root / "scalar" / f"{mutant.kind}.c", root / "kernel_list.c"]


def includes(folder: Path) -> list[str]:
    """Where the mutant's headers are."""
    return [f"-I{folder}/csrc/include", f"-I{folder}/csrc"]


def emulated(mutant: Mutant, target: Target, folder: Path) -> Driver:
    """The mutant's driver for a system with Linux."""
    if shutil.which(target.emulator[0]) is None:
        pytest.skip(f"{target.emulator[0]} is not installed")
    try:
        tools = target.toolchain()
    except TargetError as error:
        pytest.skip(str(error))
    (folder / "kernel_fields.h").write_text(FIELDS.header())
    sources = [*mutated(mutant, folder), HERE / "driver.c", HERE / "driver_posix.c"]
    command = [*tools.program_cc, *tools.flags, *kernel_files(ROOT, mutant.set, target.arch, tools.family)[1]]
    command += ["-std=gnu11", "-O1", "-ffp-contract=off", *includes(folder), f"-I{folder}", *map(str, sources)]
    toolchain.run([*command, "-static", "-o", str(folder / "driver")])
    return Driver([target.emulator[0], "-cpu", target.verify[mutant.set], str(folder / "driver")])


def on_board(mutant: Mutant, target: Target, folder: Path) -> Driver:
    """The mutant's driver for a microcontroller."""
    ready(target.name)
    return link(target, mutated(mutant, folder), includes(folder), folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mutant", "name"), RUNS, ids=[f"{target}-{m.kernel}-{m.name.replace(' ', '_')}" for m, target in RUNS]
)
def test_mutant_is_caught(mutant: Mutant, name: str, kernels: list[Kernel], tmp_path: Path) -> None:
    """Some case tells the mutant from the scalar kernel, or the mutant touches what is not its own."""
    target = next(target for target in read_targets(ROOT) if target.name == name)
    machine = (emulated if target.system == "linux" else on_board)(mutant, target, tmp_path)
    kernel = machine.kernels[mutant.kernel]
    scalar = scalar_of(mutant.kind, kernels)
    with pytest.raises(AssertionError, match=r"case|wrote|changed|ended"):
        compare_with_scalar(machine, kernel, scalar, lambda seed: case(mutant.kind, seed, mutant.kernel), 0, VALUES)
