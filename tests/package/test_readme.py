# SPDX-License-Identifier: Apache-2.0
"""The README's programs are compiled and run, its commands executed, its output compared."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.cli.app import invoke


def block(readme: str, marker: str, language: str) -> str:
    """The fenced block behind a marker."""
    match = re.search(rf"<!-- {marker} -->\s*```{language}\n(.*?)```", readme, re.S)
    assert match, f"the README has no block '{marker}'"
    return match[1]


@pytest.fixture(scope="module")
def readme(root: Path) -> str:
    return (root / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's files, copied to where they may be written."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("digits.onnx", "digits_calib.npz", "digits_test.npz"):
        shutil.copy(digits / name, folder)
    return folder


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `edgekit build --target host` makes."""
    folder = tmp_path_factory.mktemp("host")
    assert invoke(["build", "--target", "host", "-o", str(folder), "--json"]) == 0
    return folder


def compiled(command: list[str], source: Path, runtime: Path, output: Path) -> Path:
    flags = ["-Wall", "-Wextra", "-Werror", f"-I{runtime / 'include'}", f"-L{runtime}", f"-Wl,-rpath,{runtime}"]
    subprocess.run([*command, *flags, str(source), "-ledgekit", "-o", str(output)], check=True)
    return output


def stable(lines: list[str]) -> list[str]:
    """What does not depend on the processor: not which kernel sets and emulators run, nor digests, whose last bits follow
    the float calibration; nor how wide the columns are, which follows the longest name."""
    varying = re.compile(r"c-|qemu-|skipped|top1")
    kept = [re.sub(r"  [0-9a-f]{16}$", "", line) for line in lines if not varying.match(line)]
    return [re.sub(r" {2,}", "  ", line) for line in kept]


@pytest.mark.slow
def test_demo_command(readme: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(folder)
    commands = [part.strip() for part in block(readme, "demo command", "sh").replace("\n", " ").split("&&")]
    assert commands[0] == "pip install ."
    assert commands[1] == "cd firmware_examples/digits"
    capfd.readouterr()
    for command in commands[2:]:
        words = shlex.split(command)
        assert words[0] == "edgekit"
        assert invoke(words[1:]) == 0
    shown = block(readme, "demo output", "").strip().splitlines()
    printed = capfd.readouterr().out.strip().splitlines()
    assert stable(printed) == stable(shown)
    assert "reference" in " ".join(printed)


def test_python_program(readme: str, folder: Path) -> None:
    subprocess.run([sys.executable, "-c", block(readme, "Python program", "python")], cwd=folder, check=True)


@pytest.mark.slow
def test_c_program(readme: str, folder: Path, runtime: Path) -> None:
    text = block(readme, "C program", "c")
    assert len(text.splitlines()) <= 42
    (folder / "digits.c").write_text(text)
    compiled(["cc", "-std=c11"], folder / "digits.c", runtime, folder / "strict")
    model = folder / "digits.ekm"
    edgekit.convert(folder / "digits.onnx", model, calibration=folder / "digits_calib.npz", input_layout="nhwc", input_std=16)
    build, rest = block(readme, "C command", "sh").split(" && ", 1)
    assert build == "edgekit build --target host -o runtime"
    (folder / "runtime").symlink_to(runtime)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    run = subprocess.run(["bash", "-euc", rest], cwd=folder, env=environment, capture_output=True, check=True)
    shown = [line.split() for line in run.stdout.decode().splitlines()]
    images = np.load(folder / "digits_test.npz")["x"][:3]
    np.testing.assert_array_equal(np.array(shown, np.float32), edgekit.load(model).run(images)["logits"])

    program = folder / "digits"
    damaged = bytearray(model.read_bytes())
    damaged[-1] ^= 1
    (folder / "damaged.ekm").write_bytes(damaged)
    run = subprocess.run([program, "damaged.ekm"], cwd=folder, input=b"", capture_output=True, check=False)
    assert run.returncode == 1
    assert run.stderr.decode().count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("standard", ["c++11", "c++20"])
def test_headers_serve_cpp(runtime: Path, tmp_path: Path, standard: str) -> None:
    (tmp_path / "user.cpp").write_text(
        "#include <edgekit/edgekit.h>\n#include <edgekit/edgekit_cpu.h>\n#include <edgekit/edgekit_threads.h>\n"
        "int main() {\n"
        "    ek_model model;\n"
        "    alignas(EK_ALIGN) static const char text[64] = {};\n"
        "    ek_threads *threads = ek_threads_create(2);\n"
        "    ek_threads_destroy(threads);\n"
        "    return ek_open(&model, text, sizeof text, 0) == EK_ERROR_MAGIC && (ek_cpu_kernels() & EK_KERNELS_SCALAR) ? 0 : 1;\n"
        "}\n"
    )
    compiler = os.environ.get("CXX", "c++")
    program = compiled([compiler, f"-std={standard}", "-Wpedantic"], tmp_path / "user.cpp", runtime, tmp_path / "user")
    subprocess.run([program], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("header", ["edgekit.h", "edgekit_cpu.h", "edgekit_threads.h"])
def test_each_header_stands_alone(runtime: Path, tmp_path: Path, header: str) -> None:
    (tmp_path / "alone.c").write_text(f"#include <edgekit/{header}>\n#include <edgekit/{header}>\n")
    flags = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", f"-I{runtime / 'include'}"]
    subprocess.run(["cc", *flags, str(tmp_path / "alone.c")], check=True)
