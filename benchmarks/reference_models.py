# SPDX-License-Identifier: Apache-2.0
"""The README's table: accuracy, sizes and latency of networks, against float and other runtimes.

    python benchmarks/reference_models.py [--shared ../shared] [--seconds 1] [--no-latency]

measures the digits example and, where the folder of reference models and data is given, the four MLPerf
Tiny networks and a Fashion-MNIST network. Peers run interleaved in the same process; a column is empty
where a peer or its model is not here.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import edgekit
from edgekit.bench import bench
from edgekit.commands.eval import evaluate
from edgekit.data import Preprocessing
from edgekit.errors import InputError

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Case:
    """A network, its data, how the data is read, and the peer's model."""

    name: str
    model: Path
    calibration: Path | None = None
    test: Path | None = None
    raw: dict[str, str] = field(default_factory=dict)
    tflite: Path | None = None


def cases(shared: Path | None) -> list[Case]:
    digits = ROOT / "firmware_examples" / "digits"
    rows = [
        Case("digits", digits / "digits.onnx", digits / "digits_calib.npz", digits / "digits_test.npz",
             {"input_layout": "nhwc", "input_std": "16"}),
    ]  # fmt: skip
    if shared is None:
        return rows
    models, data = shared / "models", shared / "data"
    return [
        *rows,
        Case("ic01 ResNet8", models / "ic01_resnet8.onnx", data / "cifar10_calib.npz", data / "cifar10_test.npz",
             {"input_layout": "nhwc"}, models / "ic01_resnet8_int8.tflite"),
        Case("kws01 DS-CNN", models / "kws01_dscnn.onnx", data / "kws01_calib.npz", data / "kws01_test.npz",
             {"input_mean": "83", "input_std": repr(1 / 0.5847029)}, models / "kws01_dscnn_int8.tflite"),
        Case("fashion DS-CNN", models / "fashion_dscnn.onnx", data / "fashion_mnist_calib.npz",
             data / "fashion_mnist_test.npz", {"input_std": "255"}),
        Case("vww01 MobileNetV1", models / "vww01_mobilenetv1_025.onnx", tflite=models / "vww01_mobilenetv1_025_int8.tflite"),
        Case("ad01 autoencoder", models / "ad01_autoencoder.onnx", tflite=models / "ad01_autoencoder_int8.tflite"),
    ]  # fmt: skip


def row(case: Case, folder: Path, seconds: float | None) -> list[str]:
    """One line of the table."""
    converted = edgekit.convert(case.model, folder / f"{case.model.stem}.ekm", calibration=case.calibration, **case.raw)
    assert converted.model is not None
    cells = [case.name, *accuracy(case, converted.model), f"{converted.bytes:,}", f"{converted.arena_bytes:,}"]
    if seconds is None:
        return cells
    peers = ["onnxruntime", *([f"litert:{case.tflite}"] if case.tflite else [])]
    try:
        timings = bench(converted.model, vs=peers, seconds=seconds)
    except InputError:  # LiteRT is not installed
        timings = bench(converted.model, vs=["onnxruntime"], seconds=seconds)
    medians = {timing.engine: f"{timing.median_us:,.1f}" for timing in timings}
    return [*cells, *(medians.get(engine, "") for engine in ("edgekit", "onnxruntime", "litert"))]


def accuracy(case: Case, model: Path) -> list[str]:
    """Float and int8 top-1 in percent."""
    if case.test is None:
        return ["", ""]
    preprocessing = Preprocessing.parse(case.raw.get("input_layout"), case.raw.get("input_mean"), case.raw.get("input_std"))
    floating = evaluate(case.model, case.test, "top1", preprocessing)
    return [f"{100 * floating.value:.2f}", f"{100 * evaluate(model, case.test).value:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, help="folder with models/ and data/")
    parser.add_argument("--seconds", type=float, default=1.0, help="measuring time for each engine")
    parser.add_argument("--no-latency", action="store_true")
    options = parser.parse_args()
    header = ["network", "float %", "int8 %", "file bytes", "arena bytes"]
    if not options.no_latency:
        header += ["edgekit us", "exported model in ONNX Runtime us", "LiteRT int8 us"]
    print("| " + " | ".join(header) + " |")
    print("| --- |" + " ---: |" * (len(header) - 1))
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(options.shared):
            print("| " + " | ".join(row(case, Path(folder), None if options.no_latency else options.seconds)) + " |", flush=True)


if __name__ == "__main__":
    main()
