# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime: static quantization to QDQ with uint8 activations (u8s8), buffers bound once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def version() -> str:
    import onnxruntime

    return str(onnxruntime.__version__)


def prepare(model: Path, samples: dict[str, np.ndarray], folder: Path, recipe: str) -> Path:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Samples(CalibrationDataReader):
        def __init__(self) -> None:
            self._rows = iter([dict(zip(samples, row, strict=True)) for row in zip(*samples.values(), strict=True)])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._rows, None)

    clean, path = folder / "float.onnx", folder / "int8.onnx"
    quant_pre_process(str(model), str(clean), skip_symbolic_shape=True)
    quantize_static(
        str(clean), str(path), Samples(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    clean.unlink()
    return path


class Session:
    def __init__(self, path: Path, threads: int, inputs: dict[str, np.ndarray]) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._binding = session.io_binding()
        self._held = {name: np.ascontiguousarray(array) for name, array in inputs.items()}  # the binding does not own them
        for name, array in self._held.items():
            self._binding.bind_cpu_input(name, array)
        for port in session.get_outputs():
            self._binding.bind_output(port.name)
        self._run = session.run_with_iobinding

    def run(self) -> None:
        self._run(self._binding)

    def output(self) -> np.ndarray:
        result: np.ndarray = self._binding.copy_outputs_to_cpu()[0]
        return result


def start(path: Path, threads: int, inputs: dict[str, np.ndarray]) -> Any:
    return Session(path, threads, inputs)
