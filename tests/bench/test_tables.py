# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks of conversion, throughput and builds count and print."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import edgekit
from benchmarks import builds, conversion, throughput
from benchmarks.conversion import Cost, table
from edgekit.format.reader import read
from edgekit.runtime import capi, kernels
from edgekit.runtime.pipeline import Pipeline


def test_the_table_of_conversions_has_medians_and_ratios() -> None:
    costs = {
        "edgekit": [Cost(2.0, 1.0, 0.5, 10**8), Cost(4.0, 3.0, 0.25, 3 * 10**8), Cost(3.0, 2.0, 1.0, 2 * 10**8)],
        "onnxruntime": [Cost(6.0, 5.0, 1.5, 4 * 10**8)],
    }
    assert table(costs).splitlines()[2:] == [
        "| edgekit | 3.00 | 2.00 | 0.50 | 3.00 | 200 |",
        "| onnxruntime | 6.00 | 5.00 | 1.50 | 6.50 | 400 |",
        "| ratio | 2.00 | 2.50 | 3.00 | 2.17 | 2.00 |",
    ]


def test_conversions_take_turns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    turns = []

    def measured(command: list[str]) -> Cost:
        turns.append(command[3])
        return Cost(len(turns), 0.0, 0.0, 0)

    monkeypatch.setattr(conversion, "measured", measured)
    costs = conversion.compare(tmp_path / "a.onnx", tmp_path / "a.npz", tmp_path, 3)
    assert turns == ["edgekit", "onnxruntime", "onnxruntime", "edgekit", "edgekit", "onnxruntime"]
    assert [cost.wall for cost in costs["edgekit"]] == [1, 4, 5]


def test_a_process_is_measured_to_its_end() -> None:
    cost = conversion.measured([sys.executable, "-c", "sum(range(10**6))"])
    assert cost.wall > 0 and cost.user + cost.system > 0 and cost.peak > 2**20
    with pytest.raises(SystemExit, match=r"(?s)exit code 3\n.*out of paper"):
        conversion.measured([sys.executable, "-c", "import sys; print('out of paper', file=sys.stderr); sys.exit(3)"])


@pytest.fixture
def pipelines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Pipeline]]:
    """Those that the benchmark makes, of two stages each."""
    made: list[Pipeline] = []

    def make(*arguments: object) -> Pipeline:
        made.append(Pipeline(*arguments))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(throughput, "Pipeline", make)
    monkeypatch.setattr(throughput, "measured_cuts", lambda *_: [0, 1])
    yield made
    for each in made:
        each.close()


def test_builds_are_compared_on_equal_outputs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builds, "ROUND_NS", 1000)
    path = root / "tests" / "fuzz" / "corpus" / "valid" / "network.ekm"
    pair = builds.compare([capi.lib, capi.lib], path, kernels.mask(), 3, layers=False)
    assert [build.times.count for build in pair] == [3 * builds.READINGS] * 2
    watched = builds.compare([capi.lib, capi.lib], path, kernels.mask(), 1, layers=True)
    operators = set(range(len(read(path).ops)))
    assert [set(build.layers) for build in watched] == [operators] * 2

    rng = np.random.default_rng(1)
    monkeypatch.setattr(builds, "noise", lambda shape, dtype: rng.standard_normal(shape).astype(dtype))
    with pytest.raises(SystemExit, match="outputs differ"):
        builds.compare([capi.lib, capi.lib], path, kernels.mask(), 1, layers=False)


def test_each_way_does_the_work_of_its_round(root: Path, pipelines: list[Pipeline]) -> None:
    """No sample is under way when the clock is read, however many fit the pipeline."""
    model = edgekit.load(root / "tests" / "fuzz" / "corpus" / "valid" / "network.ekm")
    with ThreadPoolExecutor(2) as pool:
        ways = throughput.ways(model, 2, pool)
        assert [way.name for way in ways] == ["one thread", "2 threads", "2 side by side", "2 stages"]
        for way in ways:
            for way.count in (1, 4, 9):
                way.round()
                assert [each.inside for each in pipelines] == [0]
            assert way.times.count == 3
            assert all(time > 0 for (time,) in way.times.rounds)
