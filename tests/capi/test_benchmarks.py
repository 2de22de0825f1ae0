# SPDX-License-Identifier: Apache-2.0
"""The programs of benchmarks/ in C: they compute what Python computes, and see the runtime's own cuts."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import edgekit
from benchmarks import from_c
from edgekit.bench.client import PeerError
from edgekit.bench.isolated import Isolated
from edgekit.data import npz_bytes
from edgekit.format.writer import write
from edgekit.plan.planner import plan
from tests.capi.test_threads import LAYERS


@pytest.fixture(scope="module")
def model(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With int8 ports, images last."""
    output = tmp_path_factory.mktemp("model") / "digits.ekm"
    raw = np.load(digits / "digits_calib.npz")["x"]
    images = raw.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(16)
    edgekit.convert(digits / "digits.onnx", output, calibration=images, io="int8", io_layout="nhwc")
    return output


@pytest.fixture(scope="module")
def program(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return from_c.compile_with(built, tmp_path_factory.mktemp("program"))


@pytest.fixture
def contender(program: Path) -> Iterator[Isolated]:
    with Isolated(from_c.Program("edgekit, from C", program)) as contender:
        yield contender


@pytest.mark.parametrize("threads", [1, 2])
def test_from_c(contender: Isolated, model: Path, tmp_path: Path, threads: int) -> None:
    image = np.random.default_rng(3).uniform(0, 1, (1, 1, 8, 8)).astype(np.float32)
    (tmp_path / "x.npz").write_bytes(npz_bytes({"image": image}))
    contender.start(model, threads, tmp_path / "x.npz")
    assert set(contender.facts) == {
        "version", "load_us", "first_run_us", "engine_kb", "memory_kb", "library_bytes",
    }  # fmt: skip
    opened = edgekit.load(model)
    (port,) = opened.outputs
    levels = opened.run(from_c.quantized(opened.inputs[0], image))[port.name].astype(np.float32)
    expected = np.float32(port.scale) * (levels - np.float32(port.zero_point))
    contender.warm_up(1e-3)
    assert contender.group >= 1
    for rounds in (1, 2):
        contender.round()
        assert (contender.times.count >= 3 * rounds, len(contender.cores)) == (True, rounds)
        np.testing.assert_array_equal(contender.output().astype(np.float32), expected.ravel())


def test_from_c_says_what_is_wrong(contender: Isolated, tmp_path: Path, model: Path) -> None:
    (tmp_path / "x.npz").write_bytes(npz_bytes({"image": np.zeros((1, 1, 4, 4), np.float32)}))
    with pytest.raises(PeerError, match=r"from C: its process ended: exit code 2: .* cannot be read"):
        contender.start(model, 1, tmp_path / "x.npz")


@pytest.mark.parametrize("layer", ["3x3", "dense row"])
def test_scaling_times_the_parts_that_the_runtime_makes(layer: str, built: Path, tmp_path: Path) -> None:
    net = LAYERS[layer]()
    plan(net)
    path = tmp_path / "layer.ekm"
    path.write_bytes(write(net))
    scaling = from_c.compile_with(built, tmp_path, "scaling")
    done = subprocess.run(
        [scaling, path, "0", "1", "1", "2", "64"], capture_output=True, text=True, check=True
    )
    records = json.loads(done.stdout)["records"]
    assert [record["threads"] for record in records] == [1, 2, 64]
    assert records[0]["loops"] == []
    for record in records:
        assert len(record["ops"]) == 1
        for loop in record["loops"]:
            assert loop["op"] == 0
            assert 2 <= len(loop["parts"]) <= 4 * record["threads"]
    for wrong in (["0", "1", "0"], ["0", "1", "x"], ["0", "1"]):
        failed = subprocess.run([scaling, path, *wrong], capture_output=True, text=True, check=False)
        assert failed.returncode == 2 and failed.stderr.count("\n") == 1
