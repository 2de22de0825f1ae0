# SPDX-License-Identifier: Apache-2.0
"""The figures of `edgekit inspect`."""

from __future__ import annotations

import json

import numpy as np

from edgekit.format.summary import summarize
from edgekit.format.writer import Packing, write
from edgekit.plan import plan
from tests import random_programs as programs


def test_figures_of_a_known_program() -> None:
    rng = np.random.default_rng(0)
    b = programs.Builder(rng, "known")
    x = b.input("x", (1, 8, 8, 3), quantized=True)
    w = b.constant((4, 3, 3, 3), None)
    y = b.emit(programs.Conv2D, [x, w], (1, 6, 6, 4), **b.accumulate(x, 4), lo=-128, hi=127)
    d = b.constant((3, 3, 4), None)
    y = b.emit(programs.DepthwiseConv2D, [y, d], (1, 4, 4, 4), **b.accumulate(y, 4), lo=-128, hi=127)
    b.output("y", y)
    program = b.finish()
    plan(program)
    data = write(program, packing=Packing(sparse_below=0))
    found = summarize(data)

    assert json.loads(json.dumps(found)) == found
    assert found["name"] == "known"
    assert found["format_version"] == "1.0"
    assert found["bytes"] == len(data)
    assert found["weight_bytes"] == 4 * 27 + 3 * 3 * 4
    assert found["macs"] == 36 * 4 * 27 + 16 * 4 * 9
    assert [op["macs"] for op in found["ops"]] == [36 * 4 * 27, 16 * 4 * 9, 0]
    assert [op["live_bytes"] for op in found["ops"]] == [144, 144 + 64, 64]
    assert found["arena_lower_bound_bytes"] == found["arena_bytes"] == 208
    assert [p["name"] for p in found["inputs"]] == ["x"]
    assert found["outputs"][0]["dtype"] == "f32"
    assert [t["region"] for t in found["tensors"]].count("readonly") == 2


def test_random_programs_have_figures(rng: np.random.Generator) -> None:
    for _ in range(5):
        program = programs.random_program(rng)
        report = plan(program)
        found = summarize(write(program))
        assert found["arena_bytes"] == report.arena_bytes
        assert found["arena_lower_bound_bytes"] == report.lower_bound_bytes
        assert len(found["ops"]) == len(program.ops)
        assert found["weight_bytes"] <= found["constant_bytes"] <= found["bytes"]
