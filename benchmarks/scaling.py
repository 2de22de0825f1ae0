# SPDX-License-Identifier: Apache-2.0
"""What 2 to 64 threads would bring: a simulation with the runtime's own cuts and measured parts.

    python benchmarks/scaling.py MODEL.ekm... [--threads 1,2,4,8,16,32,64] [--real 2] [--seconds 5] [--pool HAND-OVER TURN]

scaling.c, compiled against this checkout, prepares the model for each number of threads and times every
part of every parallel loop on one thread, and what a pool of two takes besides: to hand a loop over to a
thread that waits awake, and for each part that threads take in turn. From this the parts are dealt out as
the pool deals them, first come, first served. Real threads, as many as `--real` says, run in the same
rounds and tell how far the simulation is off. Least times of all rounds, as what is simulated is a quiet
machine.

Not in it: caches and memory that threads share, clocks that go down, threads that sleep or lose their
processor. With more than two threads each further one comes a turn at the counter of parts later, as all of
them write to it.
"""

from __future__ import annotations

import argparse
import heapq
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import from_c  # noqa: E402


@dataclass(frozen=True)
class Pool:
    """Nanoseconds: from the start of a loop until a waiting thread is at work and its end is known; of one
    turn at the counter of parts, which threads take one after the other."""

    handover: float
    take: float


def loop_time(parts: Sequence[float], threads: int, pool: Pool) -> float:
    """Nanoseconds until all parts are done, each taken by the thread that comes first."""
    if threads == 1:
        return sum(parts)
    arrivals = [0.0, *(pool.handover + n * pool.take for n in range(threads - 1))]
    counter, end = 0.0, 0.0
    for part in parts:
        ready = heapq.heappop(arrivals)
        counter = max(ready, counter) + pool.take
        end = max(end, counter + part)
        heapq.heappush(arrivals, counter + part)
    return end


@dataclass(frozen=True)
class Prediction:
    """Nanoseconds of a run, and those of them outside parallel loops, which no thread takes off another."""

    time: float
    serial: float


def predict(record: dict[str, Any], pool: Pool, clock: float) -> Prediction:
    """A run of the model as it is cut for `record["threads"]`; `clock` is what a pair of readings takes."""
    loops: dict[int, list[list[float]]] = {}
    for loop in record["loops"]:
        loops.setdefault(loop["op"], []).append([max(0.0, part - clock) for part in loop["parts"]])
    time = serial = 0.0
    for op, measured in enumerate(record["ops"]):
        own = loops.get(op, [])
        count = sum(len(parts) for parts in own)
        alone = max(0.0, measured - clock * (count + 1) - sum(map(sum, own)))
        time += alone + sum(loop_time(parts, record["threads"], pool) for parts in own)
        serial += alone
    return Prediction(time, serial)


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def measured(program: Path, model: Path, seconds: float, real: int, counts: Sequence[int]) -> dict[str, Any]:
    """What scaling.c prints."""
    command = [str(program), str(model), str(seconds), str(real), *map(str, counts)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def row(found: dict[str, Any], pool: Pool, real: int) -> list[str]:
    """Times on one thread, and how many times as fast more are."""
    simulated = {each["threads"]: predict(each, pool, found["clock"]) for each in found["records"]}
    one, last, runs = simulated[1].time, max(simulated), found["real"]
    cells = [f"{runs['1'] / 1e3:.1f}, {one / 1e3:.1f}", f"{runs['1'] / runs[str(real)]:.2f}"]
    cells += [f"{one / simulated[count].time:.2f}" for count in simulated if count > 1]
    return [*cells, f"{simulated[last].serial / one:.0%}"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--threads", type=numbers, default="1,2,4,8,16,32,64")
    parser.add_argument("--real", type=int, default=2, help="threads that run")
    parser.add_argument("--seconds", type=float, default=5.0, help="per model")
    parser.add_argument(
        "--pool", type=float, nargs=2, metavar=("HAND-OVER", "TURN"), help="nanoseconds; else measured"
    )
    options = parser.parse_args()
    counts = sorted({1, options.real, *options.threads})
    many = [count for count in counts if count > 1]
    with tempfile.TemporaryDirectory() as folder:
        program = from_c.build(Path(folder), "scaling")
        print(
            f"| model | hand-over, turn, ns | 1 thread, us: real, simulated | {options.real} threads: real | "
            f"simulated {' | '.join(map(str, many))} | outside parallel loops at {counts[-1]} |"
        )
        print("|---|---:|---:|---:|" + "---:|" * (len(many) + 1))
        for path in options.models:
            found = measured(program, path, options.seconds, options.real, counts)
            if min(found["handover"], found["take"]) < 0 and not options.pool:
                sys.exit("no two threads ever ran at the same time: try a quieter machine, or give --pool")
            pool = Pool(*options.pool) if options.pool else Pool(found["handover"], found["take"])
            cells = [f"{pool.handover:.0f}, {pool.take:.1f}", *row(found, pool, options.real)]
            print(f"| {path.stem} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
