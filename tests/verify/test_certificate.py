# SPDX-License-Identifier: Apache-2.0
"""Certificates: what they hold, and that they fail when anything has changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit import program as p
from edgekit.errors import CheckError, DataError, InputError
from edgekit.format.writer import write
from edgekit.plan import plan
from edgekit.verify import certificate, check_certificate, read_certificate, verify, write_certificate
from tests.support import Build, Random, quant

BACKENDS = ("reference", "onnxruntime")


def model(path: Path, seed: int = 1) -> Path:
    """float [1,4,6] -> Lut -> float, in a file."""
    b = Build()
    x = b.float_input((1, 4, 6), quant(0.1, 3))
    b.float_output(b.op(p.Lut, [x], (1, 4, 6), quant(0.1, 3), table=Random(seed).int8(256)))
    program = b.finish()
    plan(program)
    write(program, path)
    return path


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return model(tmp_path / "net.ekm")


@pytest.fixture
def certified(net: Path, tmp_path: Path) -> Path:
    """The certificate of `net` on 6 synthetic samples of seed 3."""
    write_certificate(verify(net, samples=6, seed=3, backends=BACKENDS), tmp_path / "net.json")
    return tmp_path / "net.json"


def altered(path: Path, change: dict[str, Any]) -> Path:
    """A copy of a certificate with fields replaced."""
    copy = path.with_name("altered.json")
    copy.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    return copy


def test_holds_again(net: Path, certified: Path) -> None:
    report = check_certificate(certified, net, backends=BACKENDS)
    assert report.ok and report.samples == 6


def test_says_what_was_shown(net: Path, certified: Path) -> None:
    content = read_certificate(certified)
    assert content["model"]["bytes"] == net.stat().st_size
    assert content["inputs"]["seed"] == 3 and content["inputs"]["source"] == "synthetic"
    assert [b["name"] for b in content["backends"]] == list(BACKENDS)
    assert len(content["tensors"]) == 2 and len(content["outputs"]) == 1
    assert {"edgekit", "format", "numpy", "onnxruntime", "machine"} <= set(content["versions"])


def test_is_the_same_text_each_time(net: Path, certified: Path, tmp_path: Path) -> None:
    write_certificate(verify(net, samples=6, seed=3, backends=BACKENDS), tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == certified.read_bytes()


def test_other_bits_are_named(net: Path, certified: Path) -> None:
    tensors = read_certificate(certified)["tensors"]
    last = list(tensors)[-1]
    report = check_certificate(
        altered(certified, {"tensors": {**tensors, last: "0" * 64}}), net, backends=BACKENDS
    )
    assert not report.ok and report.mismatches == 0
    (line,) = report.problems()
    assert line.startswith(f"reference: '{last}' has digest") and "certified is 0000" in line
    assert report.as_dict()["backends"][0]["not_as_certified"]


def test_another_file_is_refused(certified: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckError, match=r"other.ekm: not the file that .*net.json certifies"):
        check_certificate(certified, model(tmp_path / "other.ekm", seed=2), backends=BACKENDS)


def test_data_must_be_given_again(net: Path, tmp_path: Path) -> None:
    x = Random(5).rng.normal(0, 3, (4, 4, 6)).astype(np.float32)
    write_certificate(verify(net, x, backends=BACKENDS), tmp_path / "data.json")
    assert check_certificate(tmp_path / "data.json", net, x, backends=BACKENDS).ok
    with pytest.raises(InputError, match="was made with data; give the same"):
        check_certificate(tmp_path / "data.json", net)
    with pytest.raises(DataError, match="not those it was made with"):
        check_certificate(tmp_path / "data.json", net, x + 1, backends=BACKENDS)
    with pytest.raises(DataError, match="not those it was made with"):
        check_certificate(tmp_path / "data.json", net, x[:3], backends=BACKENDS)


def test_only_for_backends_that_agree_and_files(net: Path) -> None:
    report = verify(net, samples=2, backends=BACKENDS)
    report.model = {"name": "program"}
    with pytest.raises(CheckError, match="not in a file"):
        certificate(report)
    report.backends[1].mismatches = 1
    report.backends[1].disagreements.append("differs")
    with pytest.raises(CheckError, match="backends differ"):
        certificate(report)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "not a certificate"),
        (b"{", "not a certificate"),
        (b"[]", "not a certificate"),
        (b"{}", "not a certificate"),
        (b'{"edgekit_certificate": 2}', "certificate version 2"),
        (b'{"edgekit_certificate": 1, "model": 3}', "field 'model'"),
    ],
)
def test_damaged_certificates_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "damaged.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_certificate(path)


def test_missing_certificates_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.json: no such file"):
        read_certificate(tmp_path / "none.json")


def test_an_unknown_generator_is_refused(net: Path, certified: Path) -> None:
    inputs = {**read_certificate(certified)["inputs"], "generator": 99}
    with pytest.raises(InputError, match="generator 99"):
        check_certificate(altered(certified, {"inputs": inputs}), net)


def test_a_path_that_cannot_be_written_is_named(net: Path, tmp_path: Path) -> None:
    report = verify(net, samples=1, backends=BACKENDS)
    with pytest.raises(InputError, match="cannot be written"):
        write_certificate(report, tmp_path / "no" / "net.json")
