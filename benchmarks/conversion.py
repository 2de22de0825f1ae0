# SPDX-License-Identifier: Apache-2.0
"""What converting a model takes, beside ONNX Runtime's static quantizer: time, processor time and memory at its peak.

    python benchmarks/conversion.py [--net resnet50] [--samples 100] [--rounds 3]

Both start from the same float file and samples and write a file: edgekit its `.ekm` by the default recipe, ONNX Runtime
after its pre-processing a QDQ model, ranges by smallest and largest value, weights per channel. Each
conversion is a process of its own, which counts from its start with all imports; the two take turns, and the order of
each round is that of the last one reversed. The process that starts them stays small, as the kernel counts its memory to
the peak of its children. Wall time means something on a machine that has nothing else to do; the processor time, of all threads,
suffers less from company, ONNX Runtime's more than edgekit's: its threads wait for each other by spinning.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


@dataclass(frozen=True)
class Cost:
    """Attributes:
    wall: seconds from the start of the process to its end.
    user, system: seconds of processor time, of all its threads and children.
    peak: the largest resident set, bytes.
    """

    wall: float
    user: float
    system: float
    peak: int


def by_edgekit(model: Path, samples: Path, output: Path) -> None:
    """`edgekit convert`, in this process."""
    import edgekit

    edgekit.convert(model, output.with_suffix(".ekm"), calibration=samples)


def by_onnxruntime(model: Path, samples: Path, output: Path) -> None:
    """ONNX Runtime's pre-processing and static quantizer, in this process."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        """One sample at a time."""

        def __init__(self) -> None:
            with np.load(samples) as arrays:
                (self._name,) = arrays.files
                self._rest = iter(arrays[self._name])

        def get_next(self) -> dict[str, np.ndarray] | None:
            sample = next(self._rest, None)
            return None if sample is None else {self._name: sample[None]}

    prepared = output.with_suffix(".prepared.onnx")
    quant_pre_process(str(model), str(prepared))
    quantize_static(
        str(prepared),
        str(output.with_suffix(".onnx")),
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


TOOLS: dict[str, Callable[[Path, Path, Path], None]] = {"edgekit": by_edgekit, "onnxruntime": by_onnxruntime}


def measured(command: list[str]) -> Cost:
    """What a process takes; the process must succeed."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    complaint = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}\n{complaint.decode(errors='replace')}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Cost(wall, usage.ru_utime, usage.ru_stime, usage.ru_maxrss * unit)


def made_inputs(folder: Path, net: str, samples: int) -> tuple[Path, Path]:
    """`make_inputs` in a process of its own."""
    command = [sys.executable, __file__, "--net", net, "--samples", str(samples), "--make", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(done.returncode)
    model, data = done.stdout.splitlines()
    return Path(model), Path(data)


def make_inputs(folder: Path, net: str, samples: int) -> tuple[Path, Path]:
    """The float model and a file of seeded samples, named as its input is."""
    import onnx

    from benchmarks import zoo

    if net not in zoo.ZOO:
        raise SystemExit(f"--net {net}: use one of {', '.join(zoo.ZOO)}")
    model, data = zoo.make(net, folder), folder / "samples.npz"
    port = onnx.load(model).graph.input[0]
    shape = [d.dim_value for d in port.type.tensor_type.shape.dim[1:]]
    rng = np.random.default_rng(0)
    np.savez(data, **{port.name: rng.standard_normal((samples, *shape), dtype=np.float32)})
    return model, data


def compare(model: Path, data: Path, folder: Path, rounds: int) -> dict[str, list[Cost]]:
    """Tool -> the cost of each of its conversions."""
    costs: dict[str, list[Cost]] = {tool: [] for tool in TOOLS}
    for number in range(rounds):
        for tool in TOOLS if number % 2 == 0 else reversed(list(TOOLS)):
            command = [sys.executable, __file__, "--once", tool, str(model), str(data), str(folder / tool)]
            costs[tool].append(measured(command))
    return costs


def table(costs: dict[str, list[Cost]]) -> str:
    """Medians of all rounds, in Markdown; the last row is ONNX Runtime over edgekit."""
    lines = ["| | wall, s | user, s | system, s | processor, s | peak, MB |", "| --- | ---: | ---: | ---: | ---: | ---: |"]
    rows = {}
    for tool, found in costs.items():
        rows[tool] = [
            statistics.median(cost.wall for cost in found),
            statistics.median(cost.user for cost in found),
            statistics.median(cost.system for cost in found),
            statistics.median(cost.user + cost.system for cost in found),
            statistics.median(cost.peak for cost in found) / 1e6,
        ]
        lines.append(f"| {tool} | " + " | ".join(f"{value:.2f}" for value in rows[tool][:4]) + f" | {rows[tool][4]:.0f} |")
    ratios = [theirs / ours for ours, theirs in zip(rows["edgekit"], rows["onnxruntime"], strict=True)]
    lines.append("| ratio | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", default="resnet50", help="of benchmarks/zoo.py")
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--once", nargs=4, metavar=("TOOL", "MODEL", "DATA", "OUTPUT"), help=argparse.SUPPRESS)
    parser.add_argument("--make", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        print(*make_inputs(options.make, options.net, options.samples), sep="\n")
        return
    if options.once:
        tool, *paths = options.once
        TOOLS[tool](*map(Path, paths))
        return
    with tempfile.TemporaryDirectory(prefix="edgekit-conversion-") as work:
        model, data = made_inputs(Path(work), options.net, options.samples)
        costs = compare(model, data, Path(work), options.rounds)
    print(table(costs))
    print(f"load average {' '.join(f'{load:.1f}' for load in os.getloadavg())}, {os.cpu_count()} processors")


if __name__ == "__main__":
    main()
