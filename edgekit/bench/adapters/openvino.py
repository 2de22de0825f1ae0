# SPDX-License-Identifier: Apache-2.0
"""OpenVINO: quantized by NNCF, compiled for latency in one stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def version() -> str:
    import openvino

    return str(openvino.__version__).partition("-")[0]


def prepare(model: Path, samples: dict[str, np.ndarray], folder: Path, recipe: str) -> Path:
    import nncf
    import openvino

    floating = openvino.Core().read_model(str(model))
    rows = [dict(zip(samples, row, strict=True)) for row in zip(*samples.values(), strict=True)]
    softmaxes = sum(op.get_type_name() == "Softmax" for op in floating.get_ops())
    quantized = nncf.quantize(
        floating, nncf.Dataset(rows), subset_size=len(rows),
        model_type=nncf.ModelType.TRANSFORMER if softmaxes > 1 else None,
    )  # fmt: skip
    path = folder / "int8.xml"
    openvino.save_model(quantized, str(path), compress_to_fp16=False)
    return path


class Session:
    def __init__(self, path: Path, threads: int, inputs: dict[str, np.ndarray]) -> None:
        import openvino

        options = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": str(threads)}
        compiled = openvino.Core().compile_model(str(path), "CPU", options)
        self._request = compiled.create_infer_request()
        self._held = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        for name, array in self._held.items():
            self._request.set_tensor(name, openvino.Tensor(array, shared_memory=True))

    def run(self) -> None:
        # half as long as start_async and wait, which hand over to another thread
        self._request.infer(share_inputs=True, share_outputs=True)

    def output(self) -> np.ndarray:
        return np.array(self._request.get_output_tensor(0).data, np.float32)


def start(path: Path, threads: int, inputs: dict[str, np.ndarray]) -> Any:
    return Session(path, threads, inputs)
