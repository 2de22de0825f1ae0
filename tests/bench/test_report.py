# SPDX-License-Identifier: Apache-2.0
"""The tables of benchmarks/report.py."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report


def figures(median_us: float, own: float, cores: float = 1.0) -> dict[str, Any]:
    ratio = median_us / own
    return {"median_us": median_us, "ratio": ratio, "paired_ratios": [ratio, ratio, ratio], "cores": cores}


def entry(engine: str, recipe: str, **threads: dict[str, Any]) -> dict[str, Any]:
    start = {"load_us": 1500.0, "first_run_us": 250.0, "engine_kb": 2048, "memory_kb": 512, "library_bytes": 3_100_000}
    return {
        "engine": engine, "recipe": recipe, "version": "1.2", "model_bytes": 83_700, "cosine": 0.999, "start": start,
        "threads": {key.removeprefix("t"): value for key, value in threads.items()},
    }  # fmt: skip


RESULTS: dict[str, Any] = {
    "machine": {"processor": "Abacus", "family": "25", "model": "17", "cores": 2, "system": "Linux", "python": "3.11.7"},
    "date": "2026-11-21",
    "command": "python benchmarks/compare.py",
    "plan": {"rounds": 30, "round_seconds": 0.05, "starts": 5},
    "threads": [1],
    "titles": {"edgekit": "edgekit", "litert": "LiteRT", "ncnn": "ncnn"},
    "notes": {"edgekit": "as it is", "litert": "by TensorFlow", "ncnn": "by hand"},
    "skipped": {"openvino": "environment openvino: No matching distribution found"},
    "load_average": [0.1, 0.4],
    "nets": {
        "small": {
            "macs": 10_000_000,
            "peaks": {"1": {"vpdpbusd zmm": 200.0, "pmaddwd+paddd ymm": 80.0}},
            "failed": {},
            "engines": {
                "edgekit": entry("edgekit", "int8", t1=figures(100.0, 100.0)),
                "litert": entry("litert", "int8", t1=figures(200.0, 100.0)),
                "litert/dynamic": entry("litert", "dynamic", t1=figures(150.0, 100.0)),
                "ncnn": entry("ncnn", "int8", t1=figures(400.0, 100.0)),
            },
        },
        "large": {
            "macs": 2_000_000_000,
            "peaks": {"1": {"vpdpbusd zmm": 210.0, "pmaddwd+paddd ymm": 80.0}},
            "failed": {"litert": "LiteRT: ValueError: no spelling"},
            "engines": {
                "edgekit": entry("edgekit", "int8", t1=figures(10_000.0, 10_000.0)),
                "ncnn": entry("ncnn", "int8", t1=figures(60_000.0, 10_000.0)),
            },
        },
    },
}


def test_share_of_the_limit() -> None:
    assert report.share(10_000_000, 100.0, {"a": 50.0, "b": 200.0}, 1) == pytest.approx(0.5)
    assert report.share(10_000_000, 100.0, {"b": 200.0}, 2) == pytest.approx(0.25)
    assert report.share(10_000_000, 100.0, {}, 1) is None


def test_the_fastest_recipe_counts() -> None:
    net = RESULTS["nets"]["small"]
    found = report.fastest(net, "litert", 1)
    assert found is not None and (found["recipe"], found["median_us"]) == ("dynamic", 150.0)
    assert report.fastest(net, "litert", 2) is None
    assert report.fastest(net, "openvino", 1) is None
    best = report.best_peer(net, list(RESULTS["titles"]), 1)
    assert best is not None and (best[0], best[1]["median_us"]) == ("litert", 150.0)


def test_edgekit_from_c_is_no_peer() -> None:
    results = copy.deepcopy(RESULTS)
    results["titles"]["edgekit-c"] = "edgekit, from C"
    net = results["nets"]["small"]
    net["engines"]["edgekit-c"] = entry("edgekit-c", "int8", t1=figures(99.0, 100.0))
    best = report.best_peer(net, list(results["titles"]), 1)
    assert best is not None and best[0] == "litert"
    assert "| 99.0 " in report.speed_table(results, 1)


def test_speed_table() -> None:
    lines = report.speed_table(RESULTS, 1).splitlines()
    assert lines[2:] == [
        "| small (10.0) | 100 (50%) | **150** (dynamic, 33%) | 400 (12%) | LiteRT | 1.50 (1.50 to 1.50) |",
        "| large (2000) | 10000 (95%) | - | **60000** (16%) | ncnn | 6.00 (6.00 to 6.00) |",
        "| geometric mean |  |  |  |  | 3.00 |",
    ]
    assert len({line.count("|") for line in lines}) == 1


def test_a_network_that_edgekit_cannot_convert() -> None:
    results = copy.deepcopy(RESULTS)
    del results["nets"]["large"]["engines"]["edgekit"]
    for peer in results["nets"]["large"]["engines"].values():
        peer["threads"]["1"].update(ratio=None, paired_ratios=None)
    results["nets"]["large"]["failed"]["edgekit"] = "edgekit: ModelError: no"
    lines = report.speed_table(results, 1).splitlines()
    assert lines[3:] == ["| large (2000) | - | - | **60000** (16%) | ncnn | - |", "| geometric mean |  |  |  |  | 1.50 |"]
    assert "edgekit: not on large: edgekit: ModelError: no" in report.absent(results)


def test_nobody_but_edgekit() -> None:
    results = copy.deepcopy(RESULTS)
    results["titles"] = {"edgekit": "edgekit"}
    results["notes"] = {"edgekit": "as it is"}
    assert "geometric mean" not in report.markdown(results)


def test_who_is_absent_is_named_with_the_reason() -> None:
    text = report.markdown(RESULTS)
    assert "- openvino: skipped: environment openvino: No matching distribution found\n" in text
    assert "- litert: not on large: LiteRT: ValueError: no spelling\n" in text


def test_what_is_to_be_read_with_care() -> None:
    assert not any("cores" in line or "cosine" in line for line in report.absent(RESULTS))
    results = copy.deepcopy(RESULTS)
    net = results["nets"]["small"]["engines"]
    net["ncnn"]["threads"]["1"]["cores"] = 1.9
    net["litert"]["cosine"] = 0.31
    net["edgekit"]["cosine"] = None
    lines = report.absent(results)
    assert "ncnn: on small kept 1.9 cores busy instead of 1" in lines
    assert "LiteRT (litert): on small the cosine to the float model's output is 0.31" in lines
    assert "edgekit (edgekit): on small the cosine to the float model's output is none" in lines


def test_start_table_and_limits() -> None:
    text = report.markdown(RESULTS)
    assert "| ncnn | 1.2 | 1.50 | 0.250 | 2.00 | 0.500 | 83.7 | 3.10 |" in text
    assert "`vpdpbusd zmm` 200 to 210, `pmaddwd+paddd ymm` 80" in text
    assert "load average 0.1 to 0.4" in text


def test_no_peak_is_said() -> None:
    results = copy.deepcopy(RESULTS)
    for net in results["nets"].values():
        net["peaks"] = {"1": {}}
    assert "No peak was measured on this processor" in report.markdown(results)
    assert "| small (10.0) | 100 | **150** (dynamic) | 400 | LiteRT |" in report.speed_table(results, 1)


def test_a_document_gets_the_report_between_its_markers() -> None:
    before = f"Title\n{report.BEGIN}old\n{report.END}tail\n"
    after = report.replaced(before, RESULTS)
    assert after == f"Title\n{report.BEGIN}\n{report.markdown(RESULTS)}\n{report.END}tail\n"
    assert report.replaced(after, RESULTS) == after
    with pytest.raises(ValueError, match="no markers"):
        report.replaced("Title\n", RESULTS)


def test_docs_quote_the_committed_results(root: Path) -> None:
    results = json.loads((root / "benchmarks" / "results.json").read_text())
    document = (root / "docs" / "BENCHMARKS.md").read_text()
    assert report.replaced(document, results) == document, "python benchmarks/report.py benchmarks/results.json docs/BENCHMARKS.md"


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (0.2638, "0.264"), (9.996, "10.00"), (12.34, "12.3"), (4089.2, "4089")])
def test_numbers(value: float, text: str) -> None:
    assert report._number(value) == text


def test_keys() -> None:
    assert report.key("litert", "int8", "int8") == "litert"
    assert report.key("litert", "dynamic", "int8") == "litert/dynamic"
