# SPDX-License-Identifier: Apache-2.0
"""Descriptions of targets: what they may say, and which toolchain they choose."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edgekit.building.code_size import text_bytes
from edgekit.building.targets import TargetError, host_arch, read_target, read_targets, target_names
from edgekit.commands.build import weight_packing, weight_tile
from edgekit.format.tiles import TileByLayer
from edgekit.format.writer import Packing

NAMED = (
    "host", "rpi-zero2", "rpi3", "rpi4", "rpi5", "rpi2-armv7", "x86-64-v2", "x86-64-v3", "x86-64-v4", "cortex-m0plus",
    "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55", "riscv64",
)  # fmt: skip
BOARD = """
description = "a board"
arch = "aarch64"
system = "linux"
kernels = ["scalar", "neon"]
emulator = ["qemu-aarch64"]

[[toolchains]]
name = "gcc"
prefix = "no-such-compiler-"
packages = ["gcc-for-board"]

[[toolchains]]
name = "zig"
target = "aarch64-linux-gnu"
"""


@pytest.fixture
def checkout(root: Path, tmp_path: Path) -> Path:
    """A folder with the real kernel sets and one target, `board`."""
    shutil.copytree(root / "csrc" / "kernels", tmp_path / "csrc" / "kernels")
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets" / "board.toml").write_text(BOARD)
    return tmp_path


def edit(checkout: Path, old: str, new: str) -> None:
    path = checkout / "targets" / "board.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_every_target_is_described(root: Path) -> None:
    known = {target.name: target for target in read_targets(root)}
    assert set(NAMED) <= set(known)
    for target in known.values():
        assert target.description and target.toolchains and target.kernels[0] == "scalar"
        assert set(target.verify) <= set(target.kernels)
        assert (target.system == "none") == bool(target.memory)
        assert any(toolchain.family == "zig" for toolchain in target.toolchains), "pip alone must do"
    assert {"flash", "ram"} == set(known["cortex-m4"].memory)


def test_a_file_is_all_that_a_board_takes(checkout: Path) -> None:
    (checkout / "targets" / "other.toml").write_text(BOARD)
    assert target_names(checkout) == ["board", "other"]
    assert read_target(checkout, "other").emulator == ("qemu-aarch64",)


def test_a_set_without_sources_is_left_out(checkout: Path) -> None:
    edit(checkout, '["scalar", "neon"]', '["scalar", "neon", "neon_dotprod"]')
    for path in (checkout / "csrc" / "kernels").rglob("*_dotprod.c"):
        path.unlink()
    target = read_target(checkout, "board")
    assert "neon_dotprod" not in target.kernels
    assert target.packing == target.kernels[-1]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"neon"]', '"altivec"]', "unknown kernel set altivec; known are scalar, sse41"),
        ('"neon"]', '"avx2", "sse41"]', "kernel set avx2 does not exist on aarch64"),
        ('["scalar", "neon"]', '["scalar", "neon_dotprod"]', "neon_dotprod needs neon"),
        ("description", "descripton", "needs description"),
        ("emulator", "emulater", "unknown field emulater; known are description"),
        ('system = "linux"', "system = 1", "system must be of type str"),
        ('["scalar", "neon"]', '["scalar", 1]', "kernels must be a list of strings"),
        ('["scalar", "neon"]', "[]", "kernels must not be empty"),
        ('["scalar", "neon"]', "[", "Invalid"),
        ("prefix", "prefx", "toolchains: unknown field prefx"),
        ('name = "gcc"', "", "toolchains: needs name of type str"),
        ('packages = ["gcc-for-board"]', 'packages = "gcc-for-board"', "packages must be of type list"),
        ("emulator", "toolchains = [1]\nemulator", "Cannot"),
        ("emulator", 'memory = {ram = {origin = 0}}\nemulator', "memory.ram: needs bytes of type int"),
        ("emulator", "memory = {ram = 1}\nemulator", "memory.ram must be a table, not 1"),
        ('prefix = "no-such-compiler-"', "", "needs prefix, target, or cc, cxx and ar"),
        ("emulator", 'packing = "avx2"\nemulator', "packing avx2 is not one of its kernels"),
    ],
)
def test_wrong_descriptions_are_refused(checkout: Path, old: str, new: str, message: str) -> None:
    edit(checkout, old, new)
    with pytest.raises(TargetError, match=r"targets/board\.toml") as error:
        read_target(checkout, "board")
    assert message in str(error.value)


def test_unknown_names_are_refused_with_the_known_ones(checkout: Path) -> None:
    with pytest.raises(TargetError, match="unknown target toaster; known are board"):
        read_target(checkout, "toaster")
    with pytest.raises(TargetError, match="has no toolchain clang; use one of gcc, zig"):
        read_target(checkout, "board").toolchain("clang")


def test_the_first_toolchain_that_is_installed(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = read_target(checkout, "board")
    assert target.toolchain().name == "zig"
    with pytest.raises(TargetError, match="toolchain gcc is not installed: apt install gcc-for-board"):
        target.toolchain("gcc")
    compiler = tmp_path / "bin" / "no-such-compiler-gcc"
    compiler.parent.mkdir()
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    assert target.toolchain(path=str(compiler.parent)).cc == ("no-such-compiler-gcc",)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(TargetError, match=r"no compiler is installed: apt install gcc-for-board or pip install 'edgekit\[cross\]'"):
        target.toolchain()


def test_weights_are_packed_for_the_target() -> None:
    assert weight_tile("cortex-m0plus") is None
    assert weight_tile("x86-64-v3") == weight_tile("rpi5") == (16, 4)
    by_layer = weight_tile("rpi4")  # three convolution kernels, three orders
    assert isinstance(by_layer, TileByLayer)
    assert [tile for _, tile in by_layer.kernels] == [(16, 1), (8, 1), (4, 16)]
    assert weight_packing("cortex-m4") == Packing(tile=(2, 1), paired=True)
    assert not weight_packing("cortex-m55").paired


@pytest.mark.parametrize("flags", [[], ["-m32"]] if host_arch() == "x86_64" else [[]])
def test_code_size_is_that_of_size(tmp_path: Path, flags: list[str]) -> None:
    """On objects of both word sizes; -m32 needs no headers of its own."""
    source = "static const char text[] = \"constant\"; int zero[9]; int one = 1;\nconst char *f(int i) { return text + i; }\n"
    (tmp_path / "a.c").write_text(source)
    (tmp_path / "b.c").write_text(source.replace("f(", "g(").replace("zero", "nought").replace("one", "two"))
    for name in ("a", "b"):
        subprocess.run(["cc", *flags, "-O1", "-c", f"{name}.c", "-o", f"{name}.o"], cwd=tmp_path, check=True)
    subprocess.run(["ar", "rcs", "library.a", "a.o", "b.o"], cwd=tmp_path, check=True)
    listing = subprocess.run(["size", "library.a"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    expected = sum(int(line.split()[0]) for line in listing.splitlines()[1:])
    assert text_bytes(tmp_path / "library.a") == expected > 0
    (tmp_path / "empty.a").write_bytes(b"!<arch>\n")
    assert text_bytes(tmp_path / "empty.a") is None
