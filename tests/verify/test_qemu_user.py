# SPDX-License-Identifier: Apache-2.0
"""The backends under QEMU's user-mode emulation: what they show, and what they say where they fail."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.building.targets import read_target
from edgekit.errors import CheckError
from edgekit.format.reader import read
from edgekit.format.writer import write
from edgekit.plan import plan
from edgekit.verify import run as verify_run
from edgekit.verify import verify
from edgekit.verify.backends import Subject, all_backends
from edgekit.verify.backends.qemu_user import QemuUser, user_backends
from edgekit.verify.backends.reference import Reference
from tests.support import OPERATORS, cases

CORPUS = Path(__file__).resolve().parents[1] / "fuzz" / "corpus" / "valid"
NETWORK = CORPUS / "network.ekm"

pytestmark = pytest.mark.skipif(
    any(shutil.which(f"qemu-{name}") is None for name in ("aarch64", "arm", "riscv64", "x86_64")),
    reason="QEMU is not installed: apt install qemu-user",
)


def names(path: Path = NETWORK) -> list[str]:
    return [backend.name for backend in user_backends(Subject(read(path), path))]


def test_every_set_of_an_emulated_target_is_a_backend() -> None:
    required = {"qemu-aarch64", "qemu-aarch64-neon", "qemu-aarch64-neon_dotprod", "qemu-arm-neon", "qemu-riscv64"}
    assert required | {"qemu-x86-64-sse41", "qemu-x86-64-avx2"} <= set(names())
    assert set(names()) <= {backend.name for backend in all_backends(Subject(read(NETWORK), NETWORK))}


@pytest.mark.slow
@pytest.mark.parametrize("file", ["network", "network_interleaved", "network_sparse"])
def test_they_show_every_tensor_of_a_network(file: str) -> None:
    path = CORPUS / f"{file}.ekm"
    report = verify(path, samples=20, backends=["reference", *names()])
    assert report.ok, report.problems()
    assert len({backend.digest for backend in report.backends}) == 1
    assert len({backend.output_digest for backend in report.backends}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("operator", OPERATORS)
def test_they_agree_on_operators(operator: str, tmp_path: Path) -> None:
    (case,) = cases(operator, range(2000, 2001))
    plan(case.program)
    write(case.program, tmp_path / "model.ekm")
    report = verify(tmp_path / "model.ekm", case.samples, backends=["reference", *names()])
    assert report.ok, f"{case.about}\n{report.problems()}"


@pytest.mark.slow
def test_float_and_raw_samples_in_turn(digits: Path, tmp_path: Path) -> None:
    """Synthetic samples of a model that takes raw data are of both kinds; they come back in order."""
    from edgekit import convert

    path = tmp_path / "digits.ekm"
    convert(digits / "digits.onnx", path, calibration=digits / "digits_calib.npz", input_layout="nhwc", input_std=16)
    report = verify(path, samples=9, backends=["reference", "qemu-riscv64"])
    assert report.ok, report.problems()


def test_a_difference_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with one other weight in its second layer with weights."""
    program = read(NETWORK)
    weights = [name for op in program.ops for name in op.inputs if program.tensors[name].data is not None]
    changed = program.tensors[weights[1]].data
    changed.flat[0] ^= 1
    write(program, tmp_path / "other.ekm")
    right = read(NETWORK)
    target = read_target(Path(__file__).resolve().parents[2], "riscv64")
    other = QemuUser(Subject(right, tmp_path / "other.ekm"), target, "scalar")
    monkeypatch.setattr(verify_run, "all_backends", lambda subject, threads: [Reference(subject), other])
    report = verify(NETWORK, samples=5)
    first = report.backends[1].first
    writer = next(op for op in right.ops if weights[1] in op.inputs)
    assert first is not None and first.tensor == writer.outputs[0]
    assert report.problems()[0].startswith("qemu-riscv64 differs from reference: sample")


def test_a_processor_without_the_kernels_is_refused(root: Path) -> None:
    target = replace(read_target(root, "aarch64"), verify={"neon_dotprod": "cortex-a53"})
    backend = QemuUser(Subject(read(NETWORK), NETWORK), target, "neon_dotprod")
    sample = {"input0": np.zeros(read(NETWORK).tensors["input0"].shape, np.float32)}
    with pytest.raises(CheckError, match=r"qemu-aarch64-neon_dotprod: this build or this processor does not have neon_dotprod"):
        next(iter(backend.run([sample])))


def test_what_is_missing_is_said(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = read_target(root, "riscv64")
    assert QemuUser(Subject(read(NETWORK)), target, "scalar").available() == "the C runtime needs the model's file"
    backend = QemuUser(Subject(read(NETWORK), NETWORK), target, "scalar")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert backend.available() == "qemu-riscv64 is not installed: apt install qemu-user"
    (tmp_path / "qemu-riscv64").write_text("#!/bin/sh\n")
    (tmp_path / "qemu-riscv64").chmod(0o755)
    reason = backend.available()
    assert reason is not None and "apt install gcc-riscv64-linux-gnu" in reason and "edgekit[cross]" in reason
