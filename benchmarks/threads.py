# SPDX-License-Identifier: Apache-2.0
"""What one call costs from Python, and what more threads bring: medians of interleaved rounds.

    python benchmarks/threads.py MODEL.ekm... [--threads 1,2] [--seconds 2]

Every thread count runs in turn in every round, back to back as in a loop over samples and once more after
a pause in which the threads have gone to sleep. A dense layer of 4 by 4 stands for the cost of the call itself.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import edgekit
from edgekit import program as p
from edgekit.format.writer import write
from edgekit.plan.planner import plan
from edgekit.runtime.model import Model

ROUND_SECONDS = 0.01
PAUSE_SECONDS = 0.001


def tiny() -> bytes:
    """A file with int8 ports and one dense layer of 4 inputs and 4 outputs."""
    quant = p.Quant(np.float32(0.1), 0)
    program = p.Program("tiny")
    program.add(p.Tensor("x", (1, 4), quant=quant, region=p.Region.IO))
    program.add(p.Tensor("w", (4, 4), region=p.Region.READONLY, data=np.eye(4, dtype=np.int8)))
    program.add(p.Tensor("y", (1, 4), quant=quant, region=p.Region.IO))
    program.inputs, program.outputs = ["x"], ["y"]
    bias, scale = np.zeros(4, np.int32), np.ones(4, np.float32)
    program.ops.append(
        p.Dense(name="dense", inputs=["x", "w"], outputs=["y"], bias=bias, weight_scale=scale, lo=-128, hi=127)
    )
    plan(program)
    return write(program)


def per_call(run: Callable[[], object], calls: int) -> float:
    """Microseconds."""
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls * 1e6


def after_pause(run: Callable[[], object]) -> float:
    """Microseconds of a single call after a pause."""
    time.sleep(PAUSE_SECONDS)
    return per_call(run, 1)


def measure(model: Model, threads: list[int], seconds: float) -> list[tuple[float, float]]:
    """Median microseconds back to back and after a pause, for each number of threads."""
    runners = [model.bind(count) for count in threads]
    calls = max(1, int(ROUND_SECONDS * 1e6 / per_call(runners[0], 20)))
    rows: list[list[tuple[float, float]]] = [[] for _ in runners]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(rows[0]) < 5:
        for row, runner in zip(rows, runners, strict=True):
            row.append((per_call(runner, calls), after_pause(runner)))
    return [(statistics.median(a for a, _ in row), statistics.median(b for _, b in row)) for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--threads", default="1,2", help="the first is what the others are compared with")
    parser.add_argument("--seconds", type=float, default=2.0, help="per model")
    options = parser.parse_args()
    threads = [int(count) for count in options.threads.split(",")]

    call = measure(edgekit.load(tiny()), [1], options.seconds)[0][0]
    print(f"one call from Python, dense layer of 4 by 4 included: {call:.3f} us\n")
    print("| model | threads | back to back, us | ratio | after a pause, us | ratio |")
    print("|---|---:|---:|---:|---:|---:|")
    for path in options.models:
        rows = measure(edgekit.load(path), threads, options.seconds)
        for count, (busy, rested) in zip(threads, rows, strict=True):
            print(f"| {path.stem} | {count} | {busy:.2f} | {rows[0][0] / busy:.2f} | {rested:.1f} | {rows[0][1] / rested:.2f} |")


if __name__ == "__main__":
    main()
