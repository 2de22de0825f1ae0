# SPDX-License-Identifier: Apache-2.0
"""Samples one by one, side by side, and in a pipeline: median microseconds a sample, interleaved rounds.

    python benchmarks/throughput.py MODEL.ekm... [--threads 2] [--rounds 40]

Each way takes samples and returns copies of the outputs, as `edgekit run` has them: one thread, as many
threads as asked for on one sample, as many samples side by side (--batch-threads) and as many stages (--pipeline).
A round ends when all its samples are done: a pipeline is filled and drained in each.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter_ns

import numpy as np

import edgekit
from edgekit.bench.peers import noise
from edgekit.bench.rounds import Times, interleave
from edgekit.runtime.model import Model
from edgekit.runtime.pipeline import Pipeline, measured_cuts

ROUND_NS = 20_000_000
SAMPLES = 4

Samples = list[dict[str, np.ndarray]]


class Way:
    """Runs so many samples a round."""

    def __init__(self, name: str, run: Callable[[int], None]) -> None:
        self.name, self._run = name, run
        self.count = 8
        self.times = Times()

    def warm_up(self) -> None:
        """Makes a round as long as ROUND_NS."""
        for _ in range(3):
            start = perf_counter_ns()
            self._run(self.count)
            self.count = max(8, int(self.count * ROUND_NS / (perf_counter_ns() - start)))

    def round(self) -> None:
        start = perf_counter_ns()
        self._run(self.count)
        self.times.add([(perf_counter_ns() - start) / self.count])


def ways(model: Model, threads: int, pool: ThreadPoolExecutor) -> list[Way]:
    """All of them on a few samples of noise, over and over."""
    rng = np.random.default_rng(3)
    shifts = rng.permutation(SAMPLES)
    samples = [
        {port.name: np.roll(noise(port.shape, port.dtype), shift) for port in model.inputs}
        for shift in shifts
    ]
    endless: Iterator[dict[str, np.ndarray]] = itertools.cycle(samples)
    stages = Pipeline(model, samples[0], "auto", measured_cuts(model, samples[0], threads))

    def one_by_one(count: int) -> None:
        for _ in range(count):
            model.run(next(endless))

    def together(count: int) -> None:
        for _ in range(count):
            model.run(next(endless), threads=threads)

    def side_by_side(count: int) -> None:
        for _ in pool.map(model.run, itertools.islice(endless, count)):
            pass

    def pipeline(count: int) -> None:
        for sample in itertools.islice(endless, count):
            stages.push(sample)
            if stages.is_full:
                stages.pop()
        while stages.inside:
            stages.pop()

    return [
        Way("one thread", one_by_one),
        Way(f"{threads} threads", together),
        Way(f"{threads} side by side", side_by_side),
        Way(f"{threads} stages", pipeline),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    print("| model | way | us a sample | samples a second, to one thread |\n|---|---|---:|---:|")
    for path in options.models:
        with ThreadPoolExecutor(options.threads) as pool:
            entries = ways(edgekit.load(path), options.threads, pool)
            for entry in entries:
                entry.warm_up()
            interleave(entries, options.rounds)
        for entry in entries:
            ratio = entries[0].times.ratio(entry.times)
            print(f"| {path.stem} | {entry.name} | {entry.times.median_us:.1f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
