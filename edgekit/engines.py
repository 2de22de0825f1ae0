# SPDX-License-Identifier: Apache-2.0
"""A model that runs samples, whatever executes it: `.ekm` in the C runtime, `.onnx` in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from edgekit.data import Dataset, DataSource, InputSpec, Layout, Preprocessing, open_data
from edgekit.errors import DataError, InputError, ModelError, first_line
from edgekit.format.reader import read
from edgekit.format.schema import Dtype, RawLayout
from edgekit.program import Program, Quantize
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
    """DATA in the form that an engine takes: the inputs in `raw` as stored, others as float32."""

    dataset: Dataset
    raw: frozenset[str] = frozenset()

    @property
    def samples(self) -> int:
        return self.dataset.samples

    @property
    def labels(self) -> np.ndarray | None:
        return self.dataset.labels

    def __iter__(self) -> Iterator[Sample]:
        return (Sample(batch.inputs, batch.count, batch.size) for batch in self.dataset.batches(self.raw))


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

    @cached_property
    def program(self) -> Program:
        """What the file says."""
        return read(self.path)

    def recorded(self, given: Preprocessing) -> dict[str, Preprocessing]:
        """Input -> the preprocessing of raw data that the file records; empty where it records none.

        Raises:
            DataError: the file records another one than is given.
        """
        if all(port.raw_dtype is None for port in self.model.inputs):
            return {}
        known = recorded_preprocessing(self.program)
        for spec in self._specs(known):
            if spec.name in known and given.applies_to(spec, len(self.model.inputs)):
                try:
                    given.check_agrees(known[spec.name], spec)
                except DataError as error:
                    raise DataError(f"{self.path}: {error}") from None
        return known

    def open(self, data: DataSource, preprocessing: Preprocessing, limit: int | None) -> Feed:
        """DATA as the runtime takes it: raw where the file records how to read it and the arrays are of that
        type, the quantized tensor where the model's I/O is quantized, the model's own float32 input otherwise,
        after `preprocessing` if given."""
        ports = self.model.inputs
        if all(port.format == "int8" for port in ports):
            if preprocessing.given:
                raise DataError(
                    f"{self.path}: takes the quantized tensor itself, which nothing prepares; leave out --input-layout, "
                    "--input-mean and --input-std"
                )
            dataset = open_data(data, self._specs({}), None, limit)
            return Feed(dataset, frozenset(port.name for port in ports))
        known = self.recorded(preprocessing)
        dataset = open_data(data, self._specs(known), preprocessing, limit, known)
        return Feed(dataset, dataset.raw)

    def _specs(self, known: Mapping[str, Preprocessing]) -> list[InputSpec]:
        return [InputSpec(p.name, p.shape, _own_layout(p, known.get(p.name))) for p in self.model.inputs]

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return self.model.run(arrays, kernels=self.kernels, threads=self.threads)

    def real_input(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        port = self.model.inputs[0]
        array = arrays[port.name]
        if array.dtype == np.float32:
            return array
        if port.format == "int8":
            return np.float32(port.scale) * (array.astype(np.float32) - np.float32(port.zero_point))
        op = next(op for op in self.program.ops if isinstance(op, Quantize) and op.inputs == [port.name])
        assert op.raw_table is not None and op.raw_perm is not None
        quant = self.program.tensors[op.outputs[0]].quant
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
        return Feed(open_data(data, self.inputs, preprocessing, limit))

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
        raise ModelError(f"{name}: {'not a' if model.exists() else 'no such'} file; give the path of an .onnx file")
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


def recorded_preprocessing(program: Program) -> dict[str, Preprocessing]:
    """Input -> how raw data becomes its float32 array, where the file records that."""
    return {op.inputs[0]: _preprocessing(op) for op in program.ops if isinstance(op, Quantize) and op.raw_table is not None}


def _preprocessing(op: Quantize) -> Preprocessing:
    assert op.raw_perm is not None and op.raw_mean is not None and op.raw_std is not None
    return Preprocessing(
        layout=_LAYOUTS[op.raw_layout],
        mean=tuple(op.raw_mean.tolist()),
        std=tuple(op.raw_std.tolist()),
        dtype="int8" if op.raw_dtype == Dtype.I8 else "uint8",
        perm=tuple(op.raw_perm[i] for i in np.argsort(op.perm)),
        axis=op.perm[op.table_axis] if len(op.raw_mean) > 1 else None,
    )


def _own_layout(port: Port, known: Preprocessing | None) -> Layout | None:
    """The layout of the float32 array: the one from which the recorded permutation leads to the raw array's."""
    if known is None or known.layout is None:
        return None
    for layout in ("nchw", "nhwc"):
        if Preprocessing(known.layout).raw_perm(InputSpec(port.name, port.shape, layout)) == known.perm:
            return layout
    return None


_LAYOUTS: dict[RawLayout, Layout | None] = {RawLayout.NONE: None, RawLayout.NCHW: "nchw", RawLayout.NHWC: "nhwc"}
