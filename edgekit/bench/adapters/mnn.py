# SPDX-License-Identifier: Apache-2.0
"""MNN: its converter and its offline quantization.

Both are called in the module that the wheel builds them into: the scripts `mnnconvert` and `mnnquant` install a package
that reports their use.
"""

from __future__ import annotations

import json
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np


def version() -> str:
    import MNN  # noqa: F401

    return metadata.version("MNN")


def prepare(model: Path, samples: dict[str, np.ndarray], folder: Path, recipe: str) -> Path:
    import _tools

    floating, path = folder / "float.mnn", folder / "int8.mnn"
    path.unlink(missing_ok=True)
    _tools.mnnconvert(["mnnconvert", "-f", "ONNX", "--modelFile", str(model), "--MNNModel", str(floating), "--bizCode", "bench"])
    if not floating.exists():
        raise ValueError("mnnconvert made no model")
    with tempfile.TemporaryDirectory(dir=folder) as data:
        write_samples(samples, Path(data, "samples"))
        config = Path(data, "quant.json")
        config.write_text(
            json.dumps(
                {
                    "format": "RGB",
                    "input_type": "sequence",
                    "path": str(Path(data, "samples")),
                    "used_sample_num": len(next(iter(samples.values()))),
                    "feature_quantize_method": "KL",
                    "weight_quantize_method": "MAX_ABS",
                }
            )
        )
        _tools.mnnquant(["mnnquant", str(floating), str(path), str(config)])
    floating.unlink()
    if not path.exists():
        raise ValueError("mnnquant made no model")
    return path


def write_samples(samples: dict[str, np.ndarray], folder: Path) -> None:
    """One folder per sample, as mnnquant reads sequences."""
    for i, row in enumerate(zip(*samples.values(), strict=True)):
        sample = folder / f"{i:05}"
        sample.mkdir(parents=True)
        ports = [{"name": name, "shape": list(array.shape)} for name, array in zip(samples, row, strict=True)]
        (sample / "input.json").write_text(json.dumps({"inputs": ports}))
        for name, array in zip(samples, row, strict=True):
            np.savetxt(sample / f"{name}.txt", array.reshape(1, -1), "%.6g")


class Session:
    def __init__(self, path: Path, threads: int, inputs: dict[str, np.ndarray]) -> None:
        import MNN

        self._interpreter = MNN.Interpreter(str(path))
        self._session = self._interpreter.createSession({"backend": "CPU", "numThread": threads, "precision": "normal"})
        ports = self._interpreter.getSessionInputAll(self._session)
        for name, array in inputs.items():
            layout = MNN.Tensor_DimensionType_Caffe
            data = np.ascontiguousarray(array, np.float32)
            host = MNN.Tensor(array.shape, MNN.Halide_Type_Float, data, layout)
            ports[name].copyFrom(host)

    def run(self) -> None:
        self._interpreter.runSession(self._session)

    def output(self) -> np.ndarray:
        import MNN

        port = self._interpreter.getSessionOutput(self._session)
        shape = port.getShape()
        host = MNN.Tensor(shape, MNN.Halide_Type_Float, np.zeros(shape, np.float32), MNN.Tensor_DimensionType_Caffe)
        port.copyToHostTensor(host)
        return np.array(host.getData(), np.float32)


def start(path: Path, threads: int, inputs: dict[str, np.ndarray]) -> Any:
    return Session(path, threads, inputs)
