# SPDX-License-Identifier: Apache-2.0
"""Commands that are ended in the middle of their work: they exit quietly and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def as_from_a_terminal() -> None:
    """No signal is ignored, as it would be where the tests run in the background or under nohup."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def command(work: Path, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """The command line in a process that has folders of its own for what is temporary and what is kept."""
    (work / "tmp").mkdir(parents=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "edgekit", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(work / "tmp"), "EDGEKIT_CACHE": str(work / "cache")},
        preexec_fn=as_from_a_terminal,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def end(process: subprocess.Popen[str], number: int, when: Callable[[], bool]) -> None:
    """Sends a signal once `when` holds, and expects a quiet exit."""
    while not when():
        assert process.poll() is None, process.communicate()
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (128 + number, "")
    assert err.strip() in ("", "edgekit: interrupted")


def left(folder: Path) -> set[str]:
    """Files and folders; ONNX Runtime's own note of its session aside."""
    return {path.name for path in folder.rglob("*") if path.name != ".ses"}


@pytest.mark.parametrize("number", SIGNALS)
def test_a_build(tmp_path: Path, number: int) -> None:
    with command(tmp_path, "build", "--target", "host", "-o", tmp_path / "out") as process:
        end(process, number, lambda: any((tmp_path / "tmp").rglob("*.o")))
        assert left(tmp_path) == {"tmp"}


@pytest.mark.parametrize("number", SIGNALS)
def test_a_conversion(digits: Path, tmp_path: Path, number: int) -> None:
    arguments = ["convert", digits / "digits.onnx", "-o", tmp_path / "out.ekm", "--sparsity", "0.5"]
    arguments += ["--calibration", digits / "digits_calib.npz", "--input-layout", "nhwc", "--input-std", "16"]
    with command(tmp_path, *arguments) as process:
        end(process, number, lambda: any((tmp_path / "tmp").glob("edgekit-*/*")))
        assert left(tmp_path) == {"tmp"}


def test_nohup(converted: Path) -> None:
    """A signal that the caller ignores stays ignored."""
    script = """
import signal, sys
from edgekit.cli import main
signal.signal(signal.SIGHUP, signal.SIG_IGN)
try:
    main(["inspect", sys.argv[1]])
finally:
    print(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN)
"""
    done = subprocess.run([sys.executable, "-c", script, str(converted)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "True"


def test_while_the_runtime_is_initialized(converted: Path) -> None:
    """pybind11 reports whatever interrupts the start of a module as an ImportError that it causes."""
    script = """
import signal, sys
from edgekit.cli import main

class Interrupted:
    def find_spec(self, name, *_):
        if name == "edgekit.runtime._native":
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt as cause:
                raise ImportError("initialization failed") from cause

sys.meta_path.insert(0, Interrupted())
main(["run", sys.argv[1], "--input", "none.npy"])
"""
    command = [sys.executable, "-c", script, str(converted)]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=as_from_a_terminal)
    assert (done.returncode, done.stdout) == (128 + signal.SIGINT, "")
    assert done.stderr.strip() in ("", "edgekit: interrupted")
