# SPDX-License-Identifier: Apache-2.0
"""The process of a peer: what it answers, and what its end looks like from the other side."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.bench import server
from edgekit.bench.client import Client, PeerError
from edgekit.bench.isolated import Isolated

Start = Callable[..., Client]


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    path = tmp_path / "arrays.npz"
    np.savez(path, x=np.arange(5, dtype=np.float32))
    return path


@pytest.fixture
def made(tmp_path: Path, arrays: Path, start_peer: Start) -> dict[str, object]:
    with start_peer() as client:
        return client.request(
            "prepare", model=str(arrays), samples=str(arrays), folder=str(tmp_path / "made"), recipe="int8"
        )


def test_prepare_counts_the_bytes_of_all_parts(made: dict[str, object], tmp_path: Path) -> None:
    assert made == {"file": str(tmp_path / "made" / "int8.txt"), "bytes": len("10.0") + 100}


def test_a_session(made: dict[str, object], arrays: Path, start_peer: Start) -> None:
    with Isolated(start_peer()) as peer:
        peer.start(Path(str(made["file"])), 1, arrays)
        assert peer.facts["version"] == "7.1"
        assert peer.load_us > 0 and peer.first_run_us > 0
        assert peer.facts["library_bytes"] == 0
        assert peer.output().tolist() == [10, 10, 1]
        peer.warm_up(1e-4)
        runs = peer.output()[2]
        peer.round()
        peer.round()
        readings = [len(times) for times in peer.times.rounds]
        assert readings[0] == readings[1] >= server.MIN_READINGS
        assert peer.output()[2] == runs + 2 * (1 + readings[0] * peer.group)
        assert len(peer.cores) == 2


def test_errors_of_the_engine_are_one_line(tmp_path: Path, arrays: Path, start_peer: Start) -> None:
    with start_peer() as client:
        with pytest.raises(PeerError, match=r"^Abacus: FileNotFoundError: .*none\.onnx is not here$"):
            client.request(
                "prepare", model=str(tmp_path / "none.onnx"), samples=str(arrays), folder=str(tmp_path / "m"), recipe="int8"
            )
        assert client.request("version") == {"version": "7.1"}  # and it goes on


def test_the_end_of_a_process_is_told_with_its_last_words(made: dict[str, object], arrays: Path, start_peer: Start) -> None:
    with Isolated(start_peer(exit_at=2)) as peer:
        peer.start(Path(str(made["file"])), 1, arrays)
        with pytest.raises(PeerError, match=r"^Abacus: its process ended: exit code 3: out of paper$"):
            peer.warm_up(1e-4)


def test_no_answer(start_peer: Start) -> None:
    with start_peer() as client:
        client.request("version")
        os.kill(client._process.pid, signal.SIGKILL)
        with pytest.raises(PeerError, match="its process ended: SIGKILL"):
            client.request("version")


def test_silence_has_an_end(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter.py"
    adapter.write_text("import signal\ndef version():\n    signal.pause()\n")
    with Client("Abacus", Path(sys.executable), adapter) as client, pytest.raises(PeerError, match="no answer within"):
        client.request("version", timeout=0.01)


def test_a_missing_interpreter(tmp_path: Path) -> None:
    with pytest.raises(PeerError, match=r"Abacus: .*python"):
        Client("Abacus", tmp_path / "python", tmp_path / "adapter.py")


def test_idle_peers_stand_still(start_peer: Start) -> None:
    with start_peer() as client:
        client.request("version")
        _, status = os.waitpid(client._process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status) and os.WSTOPSIG(status) == signal.SIGSTOP
        client.request("version")


@pytest.mark.parametrize(
    ("path", "shipped"),
    [
        ("/env/lib/python3.11/site-packages/openvino/libs/libopenvino.so.2641", True),
        ("/usr/lib/python3/dist-packages/engine/core.so", True),
        ("/home/me/edgekit/runtime/_native.so", True),
        ("/usr/lib/x86_64-linux-gnu/libstdc++.so.6", False),
        ("/usr/lib/python3.11/lib-dynload/fcntl.so", False),
        ("/env/lib/python3.11/site-packages/numpy.libs/libblas.so", False),
        ("/env/lib/python3.11/site-packages/numpy/_core/_multiarray_umath.so", False),
    ],
)
def test_what_ships_with_an_engine(path: str, shipped: bool) -> None:
    assert server.is_shipped(path) is shipped


def test_packages_that_only_python_needs() -> None:
    path = "/env/lib/python3.11/site-packages/torch/lib/libtorch_cpu.so"
    assert server.is_shipped(path)
    assert not server.is_shipped(path, ("torch",))


def test_short_runs_are_timed_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock(monkeypatch)
    watch = server.Stopwatch(lambda: clock.pass_time(1_000))
    watch.warm_up(1e-3)
    assert (watch.group, watch.readings) == (20, 50)
    assert watch.round() == [1_000.0] * 50


def test_long_runs_are_timed_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock(monkeypatch)
    watch = server.Stopwatch(lambda: clock.pass_time(5_000_000))
    watch.warm_up(1e-3)
    assert (watch.group, watch.readings) == (1, server.MIN_READINGS)
    assert watch.round() == [5e6] * server.MIN_READINGS


class FakeClock:
    """Time passes only where a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0
        monkeypatch.setattr(server, "perf_counter_ns", lambda: self.now)

    def pass_time(self, nanoseconds: int) -> None:
        self.now += nanoseconds
