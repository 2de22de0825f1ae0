# SPDX-License-Identifier: Apache-2.0
"""The commands of the pages in docs/ are executed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.building.targets import read_targets
from tests.firmware.boards import ready


def block(text: str, marker: str, language: str) -> str:
    """The fenced block behind a marker."""
    match = re.search(rf"<!-- {marker} -->\s*```{language}\n(.*?)```", text, re.S)
    assert match, f"there is no block '{marker}'"
    return match[1]


def shell(root: Path, folder: Path) -> Callable[[str], str]:
    """Runs scripts in `folder` where `edgekit` and `python` are this checkout's; gives what they print."""
    (folder / "bin").mkdir()
    for name, words in (("python", ""), ("edgekit", " -m edgekit")):
        (folder / "bin" / name).write_text(f'#!/bin/sh\nexec {sys.executable}{words} "$@"\n')
        (folder / "bin" / name).chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }

    def run(script: str) -> str:
        command = ["sh", "-euc", script]
        done = subprocess.run(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    return run


@pytest.mark.slow
def test_raspberry_pi(root: Path, digits: Path, tmp_path: Path) -> None:
    """Scores of the emulated board are those of this machine."""
    if shutil.which("qemu-aarch64") is None:
        pytest.skip("QEMU is not installed: apt install qemu-user")
    page = (root / "docs" / "RASPBERRY_PI.md").read_text(encoding="utf-8")
    install, folder, *commands = block(page, "pi commands", "sh").strip().splitlines()
    assert (install, folder) == ("pip install '.[cross]'", "cd firmware_examples/digits")
    for name in ("digits.onnx", "digits_calib.npz", "digits_test.npz"):
        shutil.copy(digits / name, tmp_path)
    readme = (root / "README.md").read_text(encoding="utf-8")
    (tmp_path / "digits.c").write_text(block(readme, "C program", "c"))
    run = shell(root, tmp_path)
    run("\n".join(commands))
    images = np.load(tmp_path / "digits_test.npz")["x"][:3]
    expected = edgekit.load(tmp_path / "digits.ekm").run(images)["logits"]
    np.testing.assert_array_equal(np.fromfile(tmp_path / "scores.raw", np.float32).reshape(expected.shape), expected)
    shown = [line.split() for line in run(block(page, "pi program", "sh")).splitlines()]
    np.testing.assert_array_equal(np.array(shown, np.float32), expected)


def test_raspberry_pi_names_every_target(root: Path) -> None:
    page = (root / "docs" / "RASPBERRY_PI.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\|[^|]*\|[^|]*\| `([\w-]+)` \| (.*?)\|$", page, re.M))
    boards = {target.name: target for target in read_targets(root) if target.name.startswith("rpi")}
    assert set(rows) - {"aarch64"} == set(boards)
    for name, target in boards.items():
        assert re.findall(r"`(\w+)`", rows[name]) == [k for k in target.kernels if k != "scalar"]


def test_targets_page_names_every_backend(root: Path) -> None:
    """The table of processors is what targets/ says."""
    page = (root / "docs" / "TARGETS.md").read_text(encoding="utf-8")
    rows = {name: re.findall(r"`(-\w+)`", rest) for name, rest in re.findall(r"^\| `qemu-([\w-]+)`(.*?)\|", page, re.M)}
    verified = {t.name: [f"-{k}" for k in t.verify if k != "scalar"] for t in read_targets(root) if t.system == "linux" and t.verify}
    assert rows == verified


@pytest.mark.slow
def test_cortex_m(root: Path, digits: Path, tmp_path: Path) -> None:
    """The page's commands, and the example's script, end with firmware that passed its self-test."""
    for name in ("cortex-m0plus", "cortex-m4", "cortex-m55"):
        ready(name)
    page = (root / "docs" / "CORTEX-M.md").read_text(encoding="utf-8")
    folder, *commands = block(page, "cortex-m commands", "sh").strip().splitlines()
    assert folder == "cd firmware_examples/digits"
    for name in ("digits.onnx", "digits_calib.npz", "digits_test.npz"):
        shutil.copy(digits / name, tmp_path)
    run = shell(root, tmp_path)
    assert "self-test passed" in run("\n".join(commands))
    label = int(np.load(tmp_path / "digits_test.npz")["y"][0])
    shown = run(f"mkdir example; cd example; sh {root}/firmware_examples/cortex-m/make.sh")
    assert shown.count("self-test passed\n") == 2 and shown.count(f"largest value at {label}\n") == 2


@pytest.mark.slow
def test_libraries(root: Path, digits: Path, tmp_path: Path) -> None:
    """The page's commands make both libraries, with the files that it names."""
    ready("cortex-m4")
    page = (root / "docs" / "LIBRARIES.md").read_text(encoding="utf-8")
    folder, *commands = block(page, "library commands", "sh").strip().splitlines()
    assert folder == "cd firmware_examples/digits"
    for name in ("digits.onnx", "digits_calib.npz"):
        shutil.copy(digits / name, tmp_path)
    shell(root, tmp_path)("\n".join(commands))
    table = re.findall(r"^\| (`.*?) \|", page, re.M)
    named = [name for row in table for name in re.findall(r"`(.*?)`", row)]
    assert len(named) == 9
    for made in ("edgekit-digits", "edgekit-digits-m4"):
        assert not [name for name in named if not (tmp_path / made / name).exists()]


def test_cortex_m_names_every_target(root: Path) -> None:
    page = (root / "docs" / "CORTEX-M.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|[^|]*\| `(cortex-[\w-]+)` \| (.*?) ?\| (mps\S+?)[ ,]", page, re.M)
    boards = [target for target in read_targets(root) if target.system == "none" and target.emulator]
    assert [(name, re.findall(r"`(\w+)`", kernels), machine) for name, kernels, machine in rows] == sorted(
        ((t.name, [k for k in t.kernels if k != "scalar"], t.emulator[t.emulator.index("-machine") + 1]) for t in boards),
        key=lambda row: int(re.sub(r"\D", "", row[0])),
    )


@pytest.mark.slow
def test_raspberry_pi_example(root: Path, tmp_path: Path) -> None:
    """Both of its builds classify an image, on the emulated board, as this machine does; and all images of a pipe."""
    for name in ("qemu-aarch64", "aarch64-linux-gnu-gcc", "cmake", "pkg-config", "make"):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")
    for name in ("digits", "raspberry-pi"):
        shutil.copytree(root / "firmware_examples" / name, tmp_path / name)
    folder = tmp_path / "raspberry-pi"
    page = (folder / "README.md").read_text(encoding="utf-8")
    run = shell(root, folder)
    data = np.load(tmp_path / "digits" / "digits_test.npz")
    shown = [run(block(page, "example commands", "sh")).splitlines()[-1]]
    run(block(page, "example cmake", "sh"))
    shown.append(run("qemu-aarch64 build/classify digits.ekm digit.pgm").strip())
    scores = edgekit.load(folder / "digits.ekm").run(data["x"][:3])["logits"]
    for line in shown:
        assert line.split()[:3] == ["digit.pgm", str(data["y"][0]), f"{scores[0].max():g}"]

    grey = data["x"][:3, :, :, 0]
    doubled = np.repeat(np.repeat(grey, 2, axis=1), 2, axis=2)
    wide = np.pad(np.repeat(doubled[..., None], 3, axis=3), ((0, 0), (0, 0), (5, 5), (0, 0)))  # cropped again
    (folder / "stream").write_bytes(b"".join(b"P6 26 16\n# made here\n255\n" + image.tobytes() for image in wide))
    (folder / "labels").write_text("".join(f"digit {i}\n" for i in range(10)))
    piped = run("qemu-aarch64 ./classify digits.ekm --labels labels --threads 2 < stream").splitlines()
    assert [line.split("  ")[:3] for line in piped] == [
        [f"#{i}", f"digit {data['y'][i]}", f"{scores[i].max():g}"] for i in range(3)
    ]
    for wrong, message in (("Makefile", "is no PGM or PPM image"), ("cut.pgm", "is cut off"), ("none.pgm", "cannot be read")):
        (folder / "cut.pgm").write_bytes((folder / "digit.pgm").read_bytes()[:-1])
        assert f"classify: {wrong}: {message}" in run(f"! qemu-aarch64 ./classify digits.ekm {wrong}")
