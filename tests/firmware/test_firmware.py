# SPDX-License-Identifier: Apache-2.0
"""`edgekit firmware`: the folder builds, runs, holds only what its model needs, and says what it takes."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from edgekit.commands.convert import convert
from edgekit.commands.firmware import STACK_MARGIN, Firmware, firmware
from edgekit.commands.inspect import inspect
from edgekit.errors import CheckError, EdgekitError, InputError
from edgekit.firmware import build
from edgekit.firmware.boards import board
from edgekit.firmware.stack import stack_bound
from edgekit.format.reader import read
from edgekit.verify import verify
from tests.firmware.boards import ready

Made = tuple[Path, Firmware]


@pytest.fixture(scope="module")
def made(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """For the Cortex-M4."""
    ready("cortex-m4")
    folder = tmp_path_factory.mktemp("firmware") / "digits"
    return folder, firmware(model, "cortex-m4", folder)


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["make", *arguments]
    return subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


def _size(image: Path) -> str:
    return subprocess.run(["arm-none-eabi-size", "-A", image], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", ["cortex-m0plus", "cortex-m33", "cortex-m55"])
def test_boards(name: str, model: Path, tmp_path: Path) -> None:
    ready(name)
    result = firmware(model, name, tmp_path / "out")
    assert result.stack_used <= result.stack_bound < result.sizes.stack_bytes < 4096
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


def test_the_folder_builds_anew_and_runs(made: Made, tmp_path: Path) -> None:
    folder = shutil.copytree(made[0], tmp_path / "moved")
    (folder / "firmware.elf").unlink()
    done = make(folder, "run")
    assert done.returncode == 0 and "warning" not in done.stdout, done.stdout
    assert done.stdout.splitlines()[-1] == "self-test passed"
    assert build.measure(board("cortex-m4"), folder / "firmware.elf") == made[1].sizes


def test_sizes_are_those_of_the_image(made: Made, model: Path) -> None:
    folder, result = made
    sections = dict(re.findall(r"^(\.[\w.]+)\s+(\d+) ", _size(folder / "firmware.elf"), re.M))
    sizes = result.sizes
    in_flash = (".text", ".rodata", ".ARM.exidx", ".data")
    assert sizes.flash_bytes == sum(int(sections.get(name, 0)) for name in in_flash)
    assert sizes.ram_bytes == sum(int(sections.get(name, 0)) for name in (".data", ".bss", ".noinit", ".stack"))
    assert abs(sizes.model_bytes - model.stat().st_size) < 1024  # its weights stand in another order
    application = dict(re.findall(r"^(\.[\w.]+)\s+(\d+) ", _size(folder / "application.elf"), re.M))
    assert sizes.code_bytes + sizes.model_bytes == sum(int(application.get(name, 0)) for name in in_flash)
    assert sizes.code_bytes + sizes.model_bytes + sizes.selftest_bytes == sizes.flash_bytes
    assert sizes.memory_bytes + sizes.data_bytes + sizes.stack_bytes == sizes.ram_bytes
    program = read(model)
    assert sizes.memory_bytes > program.arena_bytes + result.scratch_bytes
    assert f"| {sizes.code_bytes:,} |" in (folder / "README.md").read_text()
    inspected = inspect(model, "cortex-m4")["firmware"]
    assert inspected["sizes"] == asdict(sizes) and inspected["stack_used"] == result.stack_used


@pytest.mark.parametrize("io", ["float", "int8"])
def test_keyword_spotting_is_small(io: str, shared: Path, tmp_path: Path) -> None:
    """MLPerf Tiny's DS-CNN: 20 KiB of code, and little RAM beyond what lives at once."""
    ready("cortex-m4")
    with np.load(shared / "data" / "kws01_calib.npz") as data:
        features = (data["x"].astype(np.float32) - 83) / np.float32(1.7102956)
    np.savez(tmp_path / "features.npz", x=features)
    model = tmp_path / "kws.ekm"
    network = shared / "models" / "kws01_dscnn.onnx"
    convert(network, model, calibration=tmp_path / "features.npz", target="cortex-m4", io=io)
    sizes = firmware(model, "cortex-m4", tmp_path / "out").sizes
    assert sizes.code_bytes <= 20 * 1024
    assert sizes.ram_bytes <= 1.1 * inspect(model)["arena_lower_bound_bytes"] + 4096


def test_the_stack_is_bounded(made: Made) -> None:
    folder, result = made
    assert result.stack_used <= result.stack_bound <= result.sizes.stack_bytes - STACK_MARGIN
    assert f"more than {result.stack_bound:,} bytes of stack" in (folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("text", "replacement", "message"),
    [
        ("ek_reset(made);", "ek_create(instance, model, config, memory, bytes);", r"ek_create\S* calls ek_create"),
        ("ek_reset(made);", "((void (*)(void))(size_t)bytes)();", "is not known"),
        ("ek_reset(made);", "volatile char room[bytes]; room[0] = room[bytes - 1];", "no constant size"),
    ],
)
def test_a_stack_without_bound_is_refused(
    text: str, replacement: str, message: str, made: Made, model: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(made[0], tmp_path / "unbounded")
    source = folder / "edgekit" / "core" / "prepare.c"
    assert source.read_text().count(text) == 1
    source.write_text(source.read_text().replace(text, replacement))
    image = build.build(folder)
    operators = {op.opcode.name.lower() for op in read(model).ops}
    with pytest.raises(EdgekitError, match=message):
        stack_bound("arm-none-eabi-gcc", folder, image, set(made[1].kernels) - {""}, operators)


def test_only_what_the_model_needs_is_there(made: Made, model: Path) -> None:
    folder, result = made
    operators = re.findall(r"^EK_OPERATOR\((\w+)", (folder / "edgekit/core/operators.def").read_text(), re.M)
    assert set(operators) == {op.opcode.name for op in read(model).ops}
    kernels = re.findall(r"^EK_KERNEL\(\w+, \w+, (\w+)", (folder / "edgekit/kernels/kernels.def").read_text(), re.M)
    assert set(kernels) == set(result.kernels) - {""}
    symbols = subprocess.run(["arm-none-eabi-nm", folder / "firmware.elf"], capture_output=True, text=True, check=True).stdout
    assert "ek_check_conv2d" in symbols
    for absent in ("ek_check_prelu", "ek_prelu_scalar", "ek_check_matmul", "malloc", "printf", "__aeabi_dadd"):
        assert absent not in symbols
    assert not (folder / "edgekit/core/op_matmul.c").exists()


def test_the_digests_are_those_of_verify(made: Made, model: Path) -> None:
    """On the same sample, `verify` certifies the digest that the firmware holds."""
    from itertools import islice

    from edgekit.verify.samples import synthetic

    text = (made[0] / "selftest_data.c").read_text()
    index = int(re.search(r"synthetic sample (\d+) of seed 0", text)[1])
    sample = next(islice(synthetic(read(model), 0), index, None))
    report = verify(model, [sample], backends=["reference"])
    held = re.findall(r"^    \{((?:0x[0-9a-f]{2}, ){31}0x[0-9a-f]{2})\},", text, re.M)
    assert ["".join(re.findall(r"0x(..)", row)) for row in held] == list(report.output_digests.values())


def test_a_wrong_kernel_is_noticed_and_named(made: Made, model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(made[0], tmp_path / "wrong")
    header = folder / "edgekit" / "kernels" / "average.h"  # of every kernel for it
    text, right = header.read_text(), "win.offset = (int32_t)(inside * (uint32_t)p->x_zero);"
    assert right in text
    header.write_text(text.replace(right, "win.offset = (int32_t)(inside * (uint32_t)p->x_zero * 2u) - 1;"))
    build.build(folder)
    with pytest.raises(CheckError, match="self-test FAILED"):
        build.run(board("cortex-m4"), folder / "firmware.elf")
    wrong = re.search(r"wrong from operator (\d+)", make(folder, "-s", "run").stdout)
    assert wrong is not None
    assert read(model).ops[int(wrong[1])].opcode.name == "AVERAGE_POOL"


def test_memory_that_does_not_suffice_does_not_compile(made: Made, tmp_path: Path) -> None:
    folder = shutil.copytree(made[0], tmp_path / "small")
    header = folder / "model.h"
    header.write_text(re.sub(r"(MODEL_RAM_BYTES) \d+u", r"\1 4096u", header.read_text()))
    with pytest.raises(EdgekitError, match="do not fit the RAM"):
        build.build(folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cortex-m5", "out"), "unknown target cortex-m5; known are .*firmware is made for cortex-m0plus"),
        (("rpi4", "out"), "target rpi4: has an operating system; firmware is made for cortex-m0plus, .*edgekit build"),
        (("cortex-m4", "full"), "full: exists and is no empty folder"),
        (("cortex-m4", "missing/out"), "missing/out: cannot be made in"),
    ],
)
def test_bad_arguments(arguments: tuple[str, str], message: str, model: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    target, output = arguments
    with pytest.raises(InputError, match=message):
        firmware(model, target, tmp_path / output)
    assert {path.name for path in tmp_path.iterdir()} == {"full"}


def test_a_damaged_model_leaves_nothing(model: Path, tmp_path: Path) -> None:
    ready("cortex-m4")
    path = tmp_path / "damaged.ekm"
    path.write_bytes(model.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"damaged\.ekm"):
        firmware(path, "cortex-m4", tmp_path / "out")
    assert {p.name for p in tmp_path.iterdir()} == {"damaged.ekm"}


def test_missing_tools_are_one_line(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="target cortex-m4: arm-none-eabi-gcc is not installed: apt install gcc-arm"):
        firmware(model, "cortex-m4", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_no_c_string(model: Path, tmp_path: Path) -> None:
    ready("cortex-m3")
    path = tmp_path / 'a "b" \\ $(c) */.ekm'.replace("/", "_")
    shutil.copy(model, path)
    assert firmware(path, "cortex-m3", tmp_path / "out").target == "cortex-m3"
