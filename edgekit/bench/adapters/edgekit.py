# SPDX-License-Identifier: Apache-2.0
"""edgekit itself, by the same rules as its peers: from Python, int8 ports in NHWC as LiteRT has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def version() -> str:
    import edgekit
    import edgekit.runtime.model  # what `edgekit.load` imports on first use

    return str(edgekit.__version__)


def prepare(model: Path, samples: dict[str, np.ndarray], folder: Path, recipe: str) -> Path:
    """`recipe` is the name of a target, or `int8` for none."""
    from edgekit import convert

    data = {name: array[:, 0] for name, array in samples.items()}
    images = any(array.ndim == 5 for array in samples.values())
    target = None if recipe == "int8" else recipe
    path = folder / f"{recipe}.ekm"
    convert(model, path, calibration=data, io="int8", io_layout="nhwc" if images else None, target=target)
    return path


def quantized(port: Any, array: np.ndarray) -> np.ndarray:
    """The int8 array that an input takes for `array`, float32 in the layout of the ONNX model."""
    if array.ndim == 4:
        array = array.transpose(0, 2, 3, 1)
    levels = np.rint(array / np.float32(port.scale)) + port.zero_point
    return np.clip(levels, -128, 127).astype(np.int8)


class Session:
    def __init__(self, path: Path, threads: int, inputs: dict[str, np.ndarray]) -> None:
        import edgekit

        model = edgekit.load(path)
        self.run = model.bind(threads)
        for port in model.inputs:
            self.run.inputs[port.name][...] = quantized(port, inputs[port.name])
        self._port = model.outputs[0]

    def output(self) -> np.ndarray:
        levels = self.run.outputs[self._port.name].astype(np.float32)
        return np.float32(self._port.scale) * (levels - np.float32(self._port.zero_point))


def start(path: Path, threads: int, inputs: dict[str, np.ndarray]) -> Any:
    return Session(path, threads, inputs)
