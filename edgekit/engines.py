# SPDX-License-Identifier: Apache-2.0
"""A model that runs samples, whatever executes it: `.ekm` in the C runtime, `.onnx` in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from edgekit.data import Dataset, DataSource, InputSpec, Preprocessing, open_data
from edgekit.errors import DataError, InputError, ModelError, first_line
from edgekit.format.reader import read
from edgekit.program import Quantize
from edgekit.reference.io import dequantize, look_up_raw
from edgekit.runtime.model import Model, Port

if TYPE_CHECKING:
    import onnxruntime


@dataclass(frozen=True)
class Sample:
    """One execution: `arrays` as the engine takes them; the first `count` of its `size` samples are real."""

    arrays: dict[str, np.ndarray]
    count: int
    size: int


@dataclass(frozen=True)
class Feed:
    """DATA in the form that an engine takes."""

    dataset: Dataset
    raw: bool

    @property
    def samples(self) -> int:
        return self.dataset.samples

    @property
    def labels(self) -> np.ndarray | None:
        return self.dataset.labels

    def __iter__(self) -> Iterator[Sample]:
        batches = self.dataset.raw_batches() if self.raw else self.dataset.batches()
        return (Sample(batch.inputs, batch.count, batch.size) for batch in batches)


class Engine(Protocol):
    """What `evaluate` and `run` ask of a model."""

    def open(self, data: DataSource, preprocessing: Preprocessing, limit: int | None) -> Feed:
        """DATA for this model."""

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs of one batch, by name."""

    def real_input(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """What the model sees of its first input, float32; raw data as the table quantizes it."""


class EdgekitEngine:
    """A `.ekm` in the C runtime."""

    def __init__(self, path: Path, kernels: str = "auto", threads: int = 1) -> None:
        self.model = Model(path)
        self.path = path
        self.kernels, self.threads = kernels, threads

    def open(self, data: DataSource, preprocessing: Preprocessing, limit: int | None) -> Feed:
        """Raw where the file recorded how to read it and the arrays are of that type, or where the model's
        I/O is quantized; the model's own float32 input otherwise, after `preprocessing` if given."""
        ports = self.model.inputs
        if all(port.format == "int8" for port in ports):
            return Feed(open_data(data, [InputSpec(p.name, p.shape) for p in ports], None, limit), raw=True)
        if not preprocessing.given and all(port.raw_dtype is not None for port in ports):
            try:
                raw = open_data(data, [InputSpec(p.name, p.raw_shape or ()) for p in ports], None, limit)
            except DataError:
                if _fits(data, ports):  # float32 in the model's own layout
                    return self._open_float(data, preprocessing, limit)
                raise
            if all(raw.dtype(p.name) == p.raw_dtype for p in ports):
                return Feed(raw, raw=True)
            for port in ports:
                if raw.dtype(port.name).kind != "f":
                    found = raw.dtype(port.name)
                    raise DataError(f"input '{port.name}' takes raw {port.raw_dtype} or float32, the data is {found}; convert it")
        return self._open_float(data, preprocessing, limit)

    def _open_float(self, data: DataSource, preprocessing: Preprocessing, limit: int | None) -> Feed:
        specs = [InputSpec(port.name, port.shape) for port in self.model.inputs]
        return Feed(open_data(data, specs, preprocessing, limit), raw=False)

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return self.model.run(arrays, kernels=self.kernels, threads=self.threads)

    def real_input(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        port = self.model.inputs[0]
        array = arrays[port.name]
        if array.dtype == np.float32:
            return array
        if port.format == "int8":
            return np.float32(port.scale) * (array.astype(np.float32) - np.float32(port.zero_point))
        program = read(self.path)
        op = next(op for op in program.ops if isinstance(op, Quantize) and op.inputs == [port.name])
        assert op.raw_table is not None and op.raw_perm is not None
        quant = program.tensors[op.outputs[0]].quant
        assert quant is not None
        q = look_up_raw(array, op.raw_table, op.table_axis, op.raw_perm)
        return dequantize(q, quant.scale, quant.zero_point, tuple(np.argsort(op.perm)))


class OnnxEngine:
    """A float `.onnx` in ONNX Runtime."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        self._session = onnx_session(path, threads)
        self._outputs = [output.name for output in self._session.get_outputs()]
        self.inputs = [InputSpec(i.name, _pinned(i.shape)) for i in self._session.get_inputs()]

    def open(self, data: DataSource, preprocessing: Preprocessing, limit: int | None) -> Feed:
        return Feed(open_data(data, self.inputs, preprocessing, limit), raw=False)

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        try:
            return dict(zip(self._outputs, self._session.run(None, dict(arrays)), strict=True))
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            raise ModelError(f"ONNX Runtime fails on the model: {first_line(error)}") from error

    def real_input(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        return arrays[self.inputs[0].name]


def open_engine(path: Path, kernels: str = "auto", threads: int = 1) -> Engine:
    """The engine for a file, by its suffix.

    Raises:
        InputError: it is neither `.ekm` nor `.onnx`.
    """
    if path.suffix == ".ekm":
        return EdgekitEngine(path, kernels, threads)
    if path.suffix == ".onnx":
        return OnnxEngine(path, threads)
    raise InputError(f"{path}: not a .ekm or .onnx file")


def onnx_session(model: Path | bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session on the CPU, for a file or a serialized model."""
    import onnxruntime

    name = "the model" if isinstance(model, bytes) else str(model)
    if isinstance(model, Path) and not model.is_file():
        raise ModelError(f"{name}: no such file")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(model if isinstance(model, bytes) else name, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise ModelError(f"{name}: ONNX Runtime refuses it: {first_line(error)}") from error


def _pinned(shape: list[int | str | None]) -> tuple[int, ...]:
    """Symbolic dimensions as 1: one sample at a time."""
    return tuple(n if isinstance(n, int) else 1 for n in shape)


def _fits(data: DataSource, ports: tuple[Port, ...]) -> bool:
    """Whether DATA opens as float32 in the model's own layout."""
    try:
        dataset = open_data(data, [InputSpec(port.name, port.shape) for port in ports])
    except DataError:
        return False
    return all(dataset.dtype(port.name).kind == "f" for port in ports)
