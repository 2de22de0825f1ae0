# SPDX-License-Identifier: Apache-2.0
"""The harness from end to end, with peers that need no installation."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks import compare, report, zoo
from edgekit.bench import environments, peers
from edgekit.bench.client import Client, PeerError
from edgekit.bench.environments import PEERS, Environment, Peer
from edgekit.errors import InputError

ADAPTER = '''
import numpy as np, os, pathlib

def version():
    return "NAME 1"

def prepare(model, samples, folder, recipe):
    if "NAME" == "refuses":
        raise ValueError("no such operator")
    with open(folder.parent / "prepared.txt", "a") as log:
        log.write("NAME ")
    path = folder / "model"
    path.write_bytes(b"12345")
    return path

class Session:
    def __init__(self, path, threads, inputs):
        self.x, self.threads = next(iter(inputs.values())), threads

    def run(self):
        if "NAME" == "breaks" and self.threads == 2:
            raise ValueError("one thread only")
        self.y = np.maximum(self.x, 0)

    def output(self):
        return self.y

def start(path, threads, inputs):
    return Session(path, threads, inputs)
'''


@dataclass(frozen=True)
class Fake:
    name: str
    folder: Path
    note: str = "as it is"
    recipes: tuple[str, ...] = ("int8",)
    transformer_recipes: tuple[str, ...] = ("dynamic",)
    stamp: str | None = "1"

    @property
    def title(self) -> str:
        return self.name

    def maker(self) -> Client:
        return self.runner(1)

    def runner(self, threads: int) -> Client:
        path = self.folder / f"{self.name}.py"
        path.write_text(ADAPTER.replace("NAME", self.name))
        return Client(self.name, Path(sys.executable), path)


@pytest.fixture
def net(tmp_path: Path) -> compare.Net:
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 6]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "net", ports[:1], ports[1:])
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return compare.Net.of("net", path, tmp_path)


PLAN = compare.Plan(threads=(1, 2), rounds=2, round_seconds=1e-4, starts=2)


def test_a_run(net: compare.Net, tmp_path: Path) -> None:
    engines = [Fake(name, tmp_path) for name in ("edgekit", "peer", "refuses", "breaks")]
    output, work = tmp_path / "results" / "compare", tmp_path / "work"
    results = compare.run(engines, [net], PLAN, work, output, {"absent": "not on the index"}, "compare")
    found = results["nets"]["net"]
    assert list(found["engines"]) == ["edgekit", "peer", "breaks"]
    assert found["failed"] == {
        "refuses": "refuses: ValueError: no such operator",
        "breaks, 2 threads": "breaks: ValueError: one thread only",
    }
    peer = found["engines"]["peer"]
    assert (peer["version"], peer["model_bytes"], list(peer["threads"])) == ("peer 1", 5, ["1", "2"])
    assert peer["cosine"] == pytest.approx(1)
    assert list(found["engines"]["breaks"]["threads"]) == ["1"]
    own = found["engines"]["edgekit"]["threads"]["1"]
    assert own["ratio"] == 1 and own["paired_ratios"] == (1, 1, 1)
    assert set(peer["start"]) == set(compare.STARTS)
    assert json.loads(output.with_suffix(".json").read_text()) == json.loads(json.dumps(results))
    text = output.with_suffix(".md").read_text()
    assert "- absent: skipped: not on the index\n" in text
    assert "- refuses: not on net: refuses: ValueError: no such operator\n" in text


def test_models_are_kept_until_version_or_network_change(net: compare.Net, tmp_path: Path) -> None:
    log = tmp_path / "work" / "net" / "prepared.txt"
    peer = Fake("peer", tmp_path)
    first = compare.made(peer, net, "int8", tmp_path / "work")
    assert compare.made(peer, net, "int8", tmp_path / "work") == first
    assert log.read_text() == "peer "
    compare.made(replace(peer, stamp="2"), net, "int8", tmp_path / "work")
    assert log.read_text() == "peer " * 2
    net.model.write_bytes(net.model.read_bytes() + b"\x00\x00")
    compare.made(replace(peer, stamp="2"), net, "int8", tmp_path / "work")
    assert log.read_text() == "peer " * 3
    unstamped = replace(peer, stamp=None)
    for _ in range(2):
        compare.made(unstamped, net, "int8", tmp_path / "work")
    assert log.read_text() == "peer " * 5


def test_c_runs_the_file_that_python_runs(net: compare.Net, tmp_path: Path) -> None:
    engines = [Fake(name, tmp_path, stamp=None) for name in (report.OWN, report.OWN_FROM_C, "peer")]
    found = compare.measure(net, engines, PLAN, tmp_path / "work", None)
    assert list(found["engines"]) == [report.OWN, report.OWN_FROM_C, "peer"] and not found["failed"]
    assert (tmp_path / "work" / "net" / "prepared.txt").read_text() == f"{report.OWN} peer "


def test_recipes(net: compare.Net, tmp_path: Path) -> None:
    peer = Fake("peer", tmp_path)
    assert compare.recipes_for(peer, net) == ("int8",)
    assert compare.recipes_for(peer, replace(net, transformer=True)) == ("int8", "dynamic")


def test_cosine() -> None:
    a = np.array([3.0, 4.0])
    assert compare.cosine(a, 2 * a) == pytest.approx(1)
    assert compare.cosine(a, np.array([4.0, -3.0])) == pytest.approx(0)
    assert compare.cosine(a, np.zeros(2)) is None
    assert compare.cosine(a, np.ones(3)) is None


def test_peaks(tmp_path: Path) -> None:
    peaks = compare.Peaks(compare.build_peaks(tmp_path))
    peaks.round()
    peaks.round()
    assert len(peaks.rounds) == 2
    assert all(speed > 0 for speed in peaks.medians().values())
    peaks.rounds = [{"a": 1.0}, {"a": 5.0}, {"a": 3.0}]
    assert peaks.medians() == {"a": 3.0}
    assert compare.Peaks(None).medians() == {}


def test_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", str(tmp_path / "cc"))
    with pytest.raises(PeerError, match=r"peaks\.c"):
        compare.build_peaks(tmp_path)


def test_the_zoo_is_what_its_names_say() -> None:
    millions = {"resnet8": 12.5, "dscnn": 2.66, "mobilenet_v1_025": 7.49, "autoencoder": 0.264, "deit_tiny": 1254}
    for name, expected in millions.items():
        assert zoo.macs(zoo.ZOO[name]()) / 1e6 == pytest.approx(expected, rel=2e-3)


def test_seeds_make_the_same_network() -> None:
    assert zoo.ZOO["dscnn"]().SerializeToString() == zoo.ZOO["dscnn"]().SerializeToString()


# ---- Environments -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_environment_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    missing = Environment("abacus", ("no-such-engine==1.0",))
    monkeypatch.setitem(PEERS, "abacus", Peer("abacus", "Abacus", missing, "by hand"))
    failed = environments.install(["abacus"])
    assert list(failed) == ["abacus"]
    assert failed["abacus"].startswith("environment abacus: ") and "no-such-engine" in failed["abacus"]
    assert "\n" not in failed["abacus"]
    assert not missing.installed
    assert list((tmp_path / "peers").iterdir()) == []


def test_environments_differ_by_what_is_in_them() -> None:
    folders = {
        Environment("a", ("x==1",)).folder, Environment("a", ("x==2",)).folder,
        Environment("a", ("x==1",), alone=("y",)).folder, Environment("a", ("x==1", "y")).folder,
    }  # fmt: skip
    assert len(folders) == 4


def test_peers_have_adapters() -> None:
    for name, peer in PEERS.items():
        assert peer.adapter.is_file(), name
        assert peer.name == name


@pytest.mark.parametrize("name", ["openvino", "ncnn", "mnn"])
def test_a_peer_that_is_not_installed(name: str, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=rf"--vs {name}: .* is not installed: python -m edgekit\.bench\.environments {name}$"):
        peers.peer(name, digits / "digits.onnx", 1)
    with pytest.raises(InputError, match=rf"of the float one: give --vs {name}:FILE\.onnx$"):
        peers.peer(name, tmp_path / "net.ekm", 1)
    (tmp_path / "net.onnx").touch()
    with pytest.raises(InputError, match=rf"of the float one: give --vs {name}:.*net\.onnx$"):
        peers.peer(name, tmp_path / "net.ekm", 1)
    with pytest.raises(InputError, match=r"none\.onnx: no such file"):
        peers.peer(f"{name}:none.onnx", tmp_path / "net.ekm", 1)


def test_bench_against_an_installed_peer(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path of `edgekit bench --vs`, with this interpreter as the peer's environment."""
    from edgekit.bench import bench

    adapters = tmp_path / "adapters"
    adapters.mkdir()
    (adapters / "abacus.py").write_text(ADAPTER.replace("NAME", "abacus"))
    monkeypatch.setattr(environments, "ADAPTERS", adapters)
    monkeypatch.setattr(Environment, "python", property(lambda self: Path(sys.executable)))
    monkeypatch.setitem(PEERS, "abacus", Peer("abacus", "Abacus", Environment("abacus", ()), "by hand"))
    timings = bench(digits / "digits.onnx", vs=["abacus", "abacus"], seconds=0.01)
    assert [timing.engine for timing in timings] == ["onnxruntime", "abacus", "abacus-2"]
    assert all(timing.median_us >= timing.min_us > 0 and timing.calls > 0 for timing in timings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--threads", "two"], "argument --threads: invalid thread_counts value: 'two'"),
        (["--threads", "1,"], "argument --threads: invalid thread_counts value: '1,'"),
        (["--threads", "1,0"], "threads, rounds and starts are at least one"),
        (["--round-seconds", "nan"], "a round takes more than 0 and at most 3600 seconds"),
        (["--round-seconds", "-1"], "a round takes more than 0 and at most 3600 seconds"),
        (["--nets", ","], " is none of resnet8"),
    ],
)
def test_options_that_are_none(
    options: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["compare.py", *options])
    with pytest.raises(SystemExit) as ended:
        compare.main()
    assert ended.value.code == 2 and message in capsys.readouterr().err.splitlines()[-1]
