# SPDX-License-Identifier: Apache-2.0
"""Builds for other machines, with what pip brings alone and with the distribution's compilers: they run under
emulation and compute this machine's bits."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgekit.building.targets import Toolchain, read_target
from edgekit.commands.build import build
from edgekit.errors import InputError
from edgekit.format.reader import read
from edgekit.reference.executor import run as reference

NETWORK = Path(__file__).resolve().parents[1] / "fuzz" / "corpus" / "valid" / "network.ekm"
LINUX = ("libedgekit.a", "libedgekit_threads.a", "libedgekit.so", "edgekit-run")
PACKAGE = ("pkgconfig/edgekit.pc", "cmake/edgekit-config.cmake", "cmake/edgekit-config-version.cmake")
HEADERS = ("include/edgekit/edgekit.h", "include/edgekit/edgekit_cpu.h", "include/edgekit/edgekit_threads.h")


def needs(tool: str) -> str:
    """The path of a program that CI installs."""
    path = shutil.which(tool)
    if path is None:
        pytest.skip(f"{tool} is not installed")
    return path


def machine(path: Path) -> tuple[int, int]:
    """Word size and e_machine of an ELF file, the first object of an archive included."""
    data = path.read_bytes()
    data = data[data.index(b"\x7fELF") :]
    return 64 if data[4] == 2 else 32, int.from_bytes(data[18:20], "little")


@pytest.fixture
def samples(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """Inputs of the network as a file, and its outputs for them."""
    program = read(NETWORK)
    (name,) = program.inputs
    x = np.random.default_rng(3).normal(0, 3, (4, *program.tensors[name].shape)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    return tmp_path / "x.npy", np.stack([reference(program, {name: sample})[program.outputs[0]] for sample in x])


def digests(emulator: list[str], program: Path, data: Path, output: Path) -> list[str]:
    """What edgekit-run prints of every operator and output."""
    command = [*emulator, program, NETWORK, "--input", data, "--output", output, "--digest"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "emulator", "elf"),
    [("rpi4", "qemu-aarch64", (64, 183)), ("rpi2-armv7", "qemu-arm", (32, 40)), ("rpi1-armv6", "qemu-arm", (32, 40))],
)
def test_pip_alone_builds_for_linux_boards(
    name: str, emulator: str, elf: tuple[int, int], root: Path, tmp_path: Path, samples: tuple[Path, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """With a shell alone in PATH, so that no compiler but zig can be found; then beside the distribution's."""
    target = read_target(root, name)
    command = [needs(emulator), *target.emulator[1:]]
    made = []
    for distribution in (t for t in target.toolchains if t.family == "gcc"):
        needs(distribution.cc[0])
        made.append(build(name, tmp_path / distribution.name, distribution.name))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sh").symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    made.append(build(name, tmp_path / "zig"))
    assert [built.toolchain for built in made] == [t.name for t in target.toolchains]
    data, expected = samples
    printed = []
    for built in made:
        folder = tmp_path / built.toolchain
        assert {path.relative_to(folder).as_posix() for path in built.artifacts} == {*LINUX, *PACKAGE, *HEADERS}
        assert all(machine(folder / library) == elf for library in LINUX)
        assert built.text_bytes is not None and 20_000 < built.text_bytes < 400_000
        lines = digests(command, folder / "edgekit-run", data, tmp_path / "y")
        np.testing.assert_array_equal(np.fromfile(tmp_path / "y", np.float32), expected.ravel())
        printed.append([line.split()[-1] for line in lines])
    assert all(lines == printed[0] for lines in printed), "two compilers give other bits"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "library", "program", "magic"),
    [
        ("macos-aarch64", "libedgekit.dylib", "edgekit-run", b"\xcf\xfa\xed\xfe"),
        ("windows-x86-64", "edgekit.dll", "edgekit-run.exe", b"MZ"),
    ],
)
def test_libraries_for_other_systems(name: str, library: str, program: str, magic: bytes, tmp_path: Path) -> None:
    """They are linked; nothing here can run them."""
    built = build(name, tmp_path)
    made = {path.relative_to(tmp_path).as_posix() for path in built.artifacts}
    assert made == {"libedgekit.a", "libedgekit_threads.a", library, program, *PACKAGE, *HEADERS}
    assert all((tmp_path / file).read_bytes().startswith(magic) for file in (library, program))
    assert b"ek_open\0" in (tmp_path / library).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("toolchain", ["gcc", "zig"])
@pytest.mark.parametrize("name", ["cortex-m0plus", "cortex-m4", "cortex-m55"])
def test_microcontrollers_get_a_library_alone(name: str, toolchain: str, root: Path, tmp_path: Path) -> None:
    if toolchain == "gcc":
        needs("arm-none-eabi-gcc")
    built = build(name, tmp_path, toolchain)
    made = {path.relative_to(tmp_path).as_posix() for path in built.artifacts}
    assert made == {"libedgekit.a", *PACKAGE, *HEADERS}
    assert machine(tmp_path / "libedgekit.a") == (32, 40)
    calls = undefined(read_target(root, name).toolchain(toolchain), tmp_path / "libedgekit.a")
    soft = calls - {"memcpy", "memmove", "memset"}
    assert all(call.startswith("__aeabi_") for call in soft), f"needs a C library: {calls}"
    floats = {call for call in soft if re.fullmatch(r"__aeabi_(f\w+|i2f|ui2f|l2f|ul2f)", call)}
    assert bool(floats) == (name == "cortex-m0plus"), f"floating point in software: {floats}"


def undefined(toolchain: Toolchain, library: Path) -> set[str]:
    """Symbols that the library takes from elsewhere: links it whole, and reads what the linker misses."""
    lld = [sys.executable, "-m", "ziglang", "ld.lld", "--whole-archive", str(library), "-o", str(library.with_suffix(".elf"))]
    done = subprocess.run([*lld, "--error-limit=0"], capture_output=True, text=True, check=False)
    return set(re.findall(r"undefined symbol: (\w+)", done.stderr))


@pytest.mark.slow
def test_an_unknown_toolchain_or_target_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no toolchain msvc; use one of gcc, zig"):
        build("rpi4", tmp_path, "msvc")
    with pytest.raises(InputError, match="unknown target rpi9; known are aarch64"):
        build("rpi9", tmp_path)


PROGRAM = """
#include <edgekit/edgekit.h>
#include <edgekit/edgekit_threads.h>
int main(void)
{
    static _Alignas(EK_ALIGN) const char text[64];
    ek_model model;
    ek_threads *threads = ek_threads_create(2);
    ek_threads_destroy(threads);
    return ek_open(&model, text, sizeof text, 0) == EK_ERROR_MAGIC && threads != 0 ? 0 : 1;
}
"""
LISTS = """
cmake_minimum_required(VERSION 3.16)
project(user C)
find_package(edgekit {version} REQUIRED)
add_executable(shared user.c)
target_link_libraries(shared edgekit::edgekit)
add_executable(static user.c)
target_link_libraries(static edgekit::threads edgekit::static)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    build("host", folder)
    return folder


@pytest.fixture
def user(tmp_path: Path) -> Path:
    (tmp_path / "user.c").write_text(PROGRAM)
    return tmp_path


@pytest.mark.slow
def test_cmake_finds_the_library(installed: Path, user: Path) -> None:
    cmake = needs("cmake")
    configure = [cmake, "-S", str(user), "-B", str(user / "build"), f"-DCMAKE_PREFIX_PATH={installed}"]
    (user / "CMakeLists.txt").write_text(LISTS.format(version="0.1"))
    subprocess.run(configure, check=True)
    subprocess.run([cmake, "--build", str(user / "build")], check=True)
    for program in ("shared", "static"):
        subprocess.run([str(user / "build" / program)], check=True)
    for version in ("0.2", "1.0", "0.0"):
        (user / "CMakeLists.txt").write_text(LISTS.format(version=version))
        refused = subprocess.run(configure, capture_output=True, text=True, check=False)
        assert refused.returncode and "version" in refused.stderr


@pytest.mark.slow
def test_pkg_config_finds_the_library(installed: Path, user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pkg_config = needs("pkg-config")
    monkeypatch.setenv("PKG_CONFIG_PATH", str(installed / "pkgconfig"))

    def ask(*words: str) -> list[str]:
        return subprocess.run([pkg_config, *words, "edgekit"], capture_output=True, text=True, check=True).stdout.split()

    header = (installed / "include" / "edgekit" / "edgekit.h").read_text()
    assert ask("--modversion") == [".".join(re.findall(r"#define EK_VERSION_\w+ (\d+)", header))]
    for name, flags in {
        "shared": [*ask("--cflags", "--libs"), f"-Wl,-rpath,{installed}"],
        "static": ["-static", *ask("--static", "--cflags", "--libs")],
    }.items():
        subprocess.run(["cc", "user.c", *flags, "-o", name], cwd=user, check=True)
        subprocess.run([str(user / name)], check=True)


@pytest.mark.slow
def test_scons_builds_the_same(root: Path, tmp_path: Path) -> None:
    """`scons target=NAME` and `edgekit build --target NAME`, on the smallest target."""
    needs("arm-none-eabi-gcc")
    command = [sys.executable, "-m", "SCons", "-Q", "-C", str(root), "target=cortex-m3", f"build_dir={tmp_path / 'scons'}"]
    subprocess.run(command, check=True, capture_output=True)
    build("cortex-m3", tmp_path / "edgekit")
    assert (tmp_path / "scons" / "libedgekit.a").read_bytes() == (tmp_path / "edgekit" / "libedgekit.a").read_bytes()


def test_targets_name_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from edgekit.cli.app import invoke

    monkeypatch.setenv("PATH", str(tmp_path))
    assert invoke(["targets", "--json"]) == 0
    known = {target["name"]: target for target in json.loads(capsys.readouterr().out)["targets"]}
    assert known["rpi4"]["toolchain"] == "zig"
    assert known["rpi4"]["emulator"] is None
    assert known["rpi4"]["install"] == ["apt install qemu-user"]
    gcc = known["rpi4"]["toolchains"][0]
    assert gcc["name"] == "gcc" and not gcc["found"] and "gcc-aarch64-linux-gnu" in gcc["install"]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert invoke(["targets"]) == 0
    shown = capsys.readouterr().out
    assert "pip install 'edgekit[cross]'" in shown and "apt install qemu-system-arm" in shown
