# SPDX-License-Identifier: Apache-2.0
"""What it takes to begin: time from opening a file to the first result, and memory at its peak.

    python benchmarks/startup.py MODEL.ekm... [--rounds 15]

Each round is a process of its own that has imported the package and run nothing yet; medians of all rounds, and the
best. Memory is what the process holds beyond what it held after the import, at its peak, beside what
it can be blamed for: the file, the instance (arena, repacked weights) and its buffers.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

STEPS = ("load", "bind", "first_run")


def once(path: Path) -> dict[str, float]:
    """One beginning in this process: microseconds of each step, and kilobytes."""
    import edgekit
    import edgekit.runtime.model  # what `edgekit.load` imports on first use

    before = peak_kilobytes()
    times = [time.perf_counter()]
    model = edgekit.load(path)
    times.append(time.perf_counter())
    runner = model.bind()
    times.append(time.perf_counter())
    runner()
    times.append(time.perf_counter())
    result = {step: (b - a) * 1e6 for step, a, b in zip(STEPS, times, times[1:], strict=False)}
    result["peak_kilobytes"] = peak_kilobytes() - before
    result["expected_kilobytes"] = (path.stat().st_size + runner.memory_bytes) / 1024
    return result


def peak_kilobytes() -> int:
    """The largest resident set of this process so far (Linux counts in kilobytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--once", action="store_true", help="one beginning in this process, as JSON")
    options = parser.parse_args()
    if options.once:
        print(json.dumps(once(options.models[0])))
        return
    rounds: dict[Path, list[dict[str, float]]] = {path: [] for path in options.models}
    for _ in range(options.rounds):
        for path, rows in rounds.items():
            command = [sys.executable, __file__, str(path), "--once"]
            rows.append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    print("| model | load, us | bind, us | first run, us | all, us | best, us | peak memory, KB | file and instance, KB |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for path, rows in rounds.items():
        medians = [statistics.median(row[step] for row in rows) for step in STEPS]
        totals = [sum(row[step] for step in STEPS) for row in rows]
        cells = [*medians, statistics.median(totals), min(totals)]
        cells += [statistics.median(row[key] for row in rows) for key in ("peak_kilobytes", "expected_kilobytes")]
        print(f"| {path.stem} | " + " | ".join(f"{cell:.0f}" for cell in cells) + " |")


if __name__ == "__main__":
    main()
