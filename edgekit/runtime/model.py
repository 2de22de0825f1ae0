# SPDX-License-Identifier: Apache-2.0
"""Models in the C runtime: `Model` opens a `.ekm`, `Runner` executes it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.data import fill, real_part
from edgekit.errors import DataError, FormatError, InputError, first_line
from edgekit.files import unconverted
from edgekit.format.schema import Opcode
from edgekit.runtime import kernels as kernel_sets
from edgekit.runtime.kernels import _native

if TYPE_CHECKING:
    from edgekit.verify import Report

Arrays = Mapping[str, np.ndarray]

MAX_THREADS: int = _native.MAX_THREADS

_FORMAT_NAMES = {_native.FORMAT_FLOAT: "float", _native.FORMAT_RAW: "raw", _native.FORMAT_INT8: "int8"}
_FORMATS = {name: number for number, name in _FORMAT_NAMES.items()}


@dataclass(frozen=True)
class Port:
    """A model input or output.

    Attributes:
        name: ONNX's name.
        shape: of the float32 array, or of the int8 array of a model with quantized I/O.
        dtype: float32, or int8 with quantized I/O.
        raw_shape: of the raw 8-bit array that the model takes instead; None where it takes none.
        raw_dtype: int8 or uint8; None where the model takes no raw data.
        scale, zero_point: of the quantized tensor, real = scale * (q - zero_point).
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    raw_shape: tuple[int, ...] | None
    raw_dtype: np.dtype | None
    scale: float
    zero_point: int

    @classmethod
    def _of(cls, native: dict[str, Any]) -> Port:
        raw = native["raw_dtype"]
        return cls(
            name=native["name"],
            shape=native["shape"],
            dtype=np.dtype(np.float32 if native["format"] == _native.FORMAT_FLOAT else np.int8),
            raw_shape=native["raw_shape"] if raw else None,
            raw_dtype=np.dtype(raw) if raw else None,
            scale=native["scale"],
            zero_point=native["zero_point"],
        )

    @property
    def format(self) -> str:
        """The declared interface: `float` or `int8`."""
        return "float" if self.dtype == np.float32 else "int8"


@dataclass(frozen=True)
class OpTime:
    """What one operator took.

    Attributes:
        op: index in the file.
        kernel: `none` where it needs none.
        chosen: the file asked for that kernel, in place of the runtime's own choice; None where that is not known.
    """

    op: int
    opcode: Opcode
    kernel: str
    nanoseconds: int
    chosen: bool | None = None


class Runner(_native.Runner):
    """A model prepared for execution, with memory of its own.

    `inputs` and `outputs` map names to the NumPy arrays that the runtime reads and writes in place: its own
    buffers, or arrays of the caller after `bind_input` and `bind_output`. Fill the inputs and call the
    runner, which returns `outputs`. Nothing is allocated, checked or copied in between, and runs of more
    than some microseconds release the GIL. One runner serves one thread at a time; make one per thread to
    run in parallel.
    """

    def __init__(
        self, model: Model, kernels: str, threads: int, formats: Mapping[str, str], observed: bool, repack: bool
    ) -> None:
        _check_threads(threads)
        numbers = [_FORMATS[formats.get(port.name, port.format)] for port in model.inputs]
        mask = kernel_sets.mask(kernels) | (_native.REPACK if repack else 0)
        super().__init__(model._native, mask, threads, numbers, observed)
        self._name, self._inputs, self._outputs = model._native.name, model.inputs, model.outputs
        self.kernels = kernels
        self.threads = threads

    def bind_input(self, name: str, array: np.ndarray) -> None:
        """Reads an input from the caller's own array from now on.

        Args:
            name: of the input.
            array: C-contiguous, of the port's `shape` and `dtype`, or of its `raw_shape` and `raw_dtype`. It is
                kept alive, and each run reads what it then holds.

        Raises:
            DataError: the array has another shape, type or layout, or shares memory with an output.
            InputError: no input has that name.
        """
        index, port = self._port("input", self._inputs, name)
        format = _format_of(port, array) if isinstance(array, np.ndarray) else port.format
        shape, dtype = (port.raw_shape, port.raw_dtype) if format == "raw" else (port.shape, port.dtype)
        _check_bindable(f"input '{name}'", array, shape, dtype)
        self._check_apart(f"input '{name}'", array, self.outputs)
        self._bind(False, index, array, _FORMATS[format])

    def bind_output(self, name: str, array: np.ndarray) -> None:
        """Writes an output to the caller's own array from now on.

        Args:
            name: of the output.
            array: writable and C-contiguous, of the port's `shape` and `dtype`. It is kept alive.

        Raises:
            DataError: the array has another shape, type or layout, or shares memory with another one.
            InputError: no output has that name.
        """
        index, port = self._port("output", self._outputs, name)
        _check_bindable(f"output '{name}'", array, port.shape, port.dtype)
        if not array.flags.writeable:
            raise DataError(f"output '{name}' takes an array that can be written")
        others = {other: held for other, held in self.outputs.items() if other != name}
        self._check_apart(f"output '{name}'", array, {**self.inputs, **others})
        self._bind(True, index, array, _FORMATS[port.format])

    def _port(self, kind: str, ports: tuple[Port, ...], name: str) -> tuple[int, Port]:
        for index, port in enumerate(ports):
            if port.name == name:
                return index, port
        listed = ", ".join(port.name for port in ports)
        raise InputError(f"{self._name}: no {kind} is named {name}; {kind}s: {listed}")

    @staticmethod
    def _check_apart(what: str, array: np.ndarray, others: Arrays) -> None:
        for name, other in others.items():
            if np.may_share_memory(array, other):
                raise DataError(f"{what} shares memory with '{name}': no output may")


def op_times(runner: Runner) -> list[OpTime]:
    """Runs an observed runner once."""
    return [
        OpTime(op, Opcode(opcode), kernel, nanoseconds, chosen)
        for op, opcode, kernel, chosen, nanoseconds in runner._profile()
    ]


class Model:
    """An open `.ekm` file.

    Args:
        source: a path, which is mapped into memory and must not be truncated while in use; or the
            file's bytes.
        check_weights: verify the checksum of the weights, too. The rest of the file is always checked.

    Raises:
        FormatError: the file is missing, cannot be read, is damaged, or needs a newer runtime.
    """

    def __init__(self, source: str | os.PathLike[str] | bytes, check_weights: bool = True) -> None:
        if isinstance(source, bytes):
            self.path = None
            self._native = _native.Model.from_bytes(source, "<bytes>", check_weights)
        else:
            self.path = Path(source)
            self._native = _open(self.path, check_weights)
        self._bytes = source if isinstance(source, bytes) else None
        self.inputs = tuple(Port._of(port) for port in self._native.inputs())
        self.outputs = tuple(Port._of(port) for port in self._native.outputs())
        self._idle: dict[tuple[Any, ...], list[Runner]] = {}

    def __repr__(self) -> str:
        return f"<edgekit.Model {self._native.name!r}>"

    def bind(
        self,
        threads: int = 1,
        kernels: str = "auto",
        *,
        raw: bool = False,
        formats: Mapping[str, str] | None = None,
        repack: bool = True,
        inputs: Arrays | None = None,
        outputs: Arrays | None = None,
    ) -> Runner:
        """A runner with memory of its own, over its own buffers or the caller's arrays.

        Args:
            threads: 1 to `MAX_THREADS`; results are the same bits for any number.
            kernels: a kernel set or `auto`; results are the same bits for any set.
            raw: feed raw 8-bit data to every input that takes it, instead of float32.
            formats: input name -> `float`, `raw` or `int8`, for a choice per input.
            repack: keep a copy of the weights in the order that the kernels like, where the file holds
                another; faster, and results are the same bits.
            inputs, outputs: name -> an array for `Runner.bind_input` or `Runner.bind_output`; ports that are not
                named get buffers of the runner's own.

        Raises:
            DataError: an array cannot be bound.
            InputError: an option or a name does not fit the model.
        """
        if formats is None:
            formats = {port.name: "raw" for port in self.inputs if raw and port.raw_dtype is not None}
        runner = self._runner(kernels, threads, formats, observed=False, repack=repack)
        for name, array in (inputs or {}).items():
            runner.bind_input(name, array)
        for name, array in (outputs or {}).items():
            runner.bind_output(name, array)
        return runner

    def run(
        self, inputs: np.ndarray | Arrays, *, kernels: str = "auto", threads: int = 1
    ) -> dict[str, np.ndarray]:
        """Runs samples through the C runtime.

        Args:
            inputs: name -> array, or the bare array of a single input. float32 is the model's own
                input; uint8 or int8 is raw data where the model recorded how to read it, and the
                quantized tensor itself where the model has quantized I/O. The shape is the
                input's, or has a leading sample axis instead of its batch dimension; missing
                dimensions of size 1 are added. A model with a fixed batch takes any number of
                samples; the last group is filled up by repeating its last sample.
            kernels, threads: as in `bind`.

        Returns:
            Output name -> array; samples are stacked along the leading dimension, those of the first
            input, without what filled up the last group.

        Raises:
            DataError: an array is missing, unknown, or has the wrong type or shape.

        Threads may share a model: each call has a runner for itself, which is kept for later calls.
        """
        arrays = self._named(inputs)
        formats = {port.name: _format_of(port, arrays[port.name]) for port in self.inputs}
        with self._borrowed(kernels, threads, formats) as runner:

            def execute(batch: Arrays) -> dict[str, np.ndarray]:
                for name, array in batch.items():
                    runner.inputs[name][...] = array
                runner()
                return {name: view.copy() for name, view in runner.outputs.items()}

            return self.run_by(execute, arrays)

    def run_by(
        self, execute: Callable[[Arrays], Mapping[str, np.ndarray]], inputs: np.ndarray | Arrays
    ) -> dict[str, np.ndarray]:
        """As `run`, on whatever executes the model.

        Args:
            execute: from one batch, arrays in the ports' own or raw shapes and types, to the outputs.
        """
        arrays = self._named(inputs)
        formats = {port.name: _format_of(port, arrays[port.name]) for port in self.inputs}
        groups = {port.name: _batches(port, formats[port.name], arrays[port.name]) for port in self.inputs}
        batches = {name: batch for name, (batch, _) in groups.items()}
        runs = self._runs(batches)
        filled = groups[self.inputs[0].name][1] if self.inputs else 0
        results: dict[str, list[np.ndarray]] = {port.name: [] for port in self.outputs}
        for i in range(runs):
            outputs = execute({name: batch[i] for name, batch in batches.items()})
            for name, stack in results.items():
                stack.append(outputs[name])
        if filled:
            size = self.inputs[0].shape[0]
            for stack in results.values():
                stack[-1] = real_part(stack[-1], size, size - filled)
        if runs == 1:
            return {name: stack[0] for name, stack in results.items()}
        return {name: np.concatenate([np.atleast_1d(y) for y in stack]) for name, stack in results.items()}

    def stream(
        self,
        samples: Iterable[np.ndarray | Arrays],
        stages: int = 2,
        *,
        kernels: str = "auto",
        cuts: Sequence[int] | None = None,
    ) -> Iterator[dict[str, np.ndarray]]:
        """Runs a stream of samples through a pipeline: each stage is a share of the operators on a thread of its own,
        so that several samples are under way. For throughput; a single sample takes longer than in `run`.

            for scores in model.stream(images, stages=2): ...

        Args:
            samples: each one run, as `run` takes it, all of the same types. They are taken from the stream as there is
                room, two per stage ahead of the outputs at most; each sample under way has memory of its own.
            stages: 1 to `MAX_THREADS`; fewer where the model has fewer operators, or where more would be no faster.
            kernels: as in `bind`.
            cuts: the operators at which the stages begin, the first one 0. Without them some runs of the first sample
                tell where stages take equally long.

        Returns:
            Outputs of each sample, in order, the same bits as those of `run` wherever the cuts are. An error in the
            stream, or in taking a sample, is raised when the outputs of all samples before it have been returned.

        Raises:
            DataError: a sample does not fit the model.
            InputError: an option does not fit, or the model keeps state from one run to the next.
        """
        from edgekit.runtime.pipeline import stream

        return stream(self, samples, stages, kernels, cuts)

    @property
    def state_bytes(self) -> int:
        """What an instance keeps from one run to the next; 0 where runs are independent."""
        return self._native.state_bytes

    def trace(
        self, inputs: np.ndarray | Arrays, *, kernels: str = "auto", threads: int = 1
    ) -> tuple[dict[str, np.ndarray], dict[int, np.ndarray]]:
        """Runs one batch, weights as the file holds them, and keeps every tensor that an operator wrote.

        Returns:
            The outputs by name, and tensor index in the file -> flat int8 array of its elements,
            8-bit tensors only, each as it was when its operator was done.
        """
        with self._fed(inputs, kernels, threads, repack=False) as runner:
            rows = runner._trace()
            outputs = {name: view.copy() for name, view in runner.outputs.items()}
        return outputs, {tensor: array for tensor, opcode, array in rows if opcode != Opcode.DEQUANTIZE}

    def profile(
        self, inputs: np.ndarray | Arrays | None = None, *, kernels: str = "auto", threads: int = 1, runs: int = 50
    ) -> list[OpTime]:
        """The median time of each operator over `runs` runs; zeros are fed where `inputs` is None."""
        if inputs is None:
            inputs = {port.name: np.zeros(port.shape, port.dtype) for port in self.inputs}
        if runs < 1:
            raise InputError(f"runs must be 1 or more, not {runs}")
        with self._fed(inputs, kernels, threads, repack=True) as runner:
            runner._profile()
            rounds = [op_times(runner) for _ in range(runs)]
        medians = np.median([[row.nanoseconds for row in rows] for rows in rounds], axis=0)
        return [replace(row, nanoseconds=int(median)) for row, median in zip(rounds[0], medians, strict=True)]

    def memory_needed(self, kernels: str = "auto", threads: int = 1) -> int:
        """Bytes that the runtime needs besides the file and the caller's buffers, without repacked weights."""
        _check_threads(threads)
        return self._native.memory_needed(kernel_sets.mask(kernels), threads)

    def scratch_needed(self, kernels: str = "auto") -> int:
        """Bytes of `memory_needed` that are one thread's scratch."""
        return self._native.scratch_needed(kernel_sets.mask(kernels))

    def verify(self, inputs: np.ndarray | Arrays | None = None, **options: Any) -> Report:
        """Compares every backend that can run here, bit by bit; see `edgekit.verify.verify`."""
        from edgekit.verify import verify

        return verify(self._source(), inputs, **options)

    def inspect(self) -> dict[str, Any]:
        """What is in the file: header, tensors, operators, memory plan; the fields of `edgekit inspect --json`."""
        from edgekit.commands.inspect import inspect

        return inspect(self._source())

    def _source(self) -> Path | bytes:
        if self.path is not None:
            return self.path
        assert self._bytes is not None
        return self._bytes

    def _named(self, inputs: np.ndarray | Arrays) -> dict[str, np.ndarray]:
        names = [port.name for port in self.inputs]
        if not isinstance(inputs, Mapping):
            if len(names) != 1:
                raise DataError(f"{self._native.name}: has {len(names)} inputs, give a dict with {', '.join(names)}")
            return {names[0]: _array(names[0], inputs)}
        if missing := [name for name in names if name not in inputs]:
            raise DataError(f"{self._native.name}: no array for input {', '.join(missing)}")
        if unknown := [name for name in inputs if name not in names]:
            raise DataError(f"{self._native.name}: no input is named {', '.join(unknown)}; inputs: {', '.join(names)}")
        return {name: _array(name, inputs[name]) for name in names}

    def _runs(self, batches: Mapping[str, np.ndarray]) -> int:
        counts = {name: len(batch) for name, batch in batches.items()}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{name} {count}" for name, count in counts.items())
            raise DataError(f"{self._native.name}: inputs have different numbers of samples: {listed}")
        return next(iter(counts.values()), 1)

    @contextmanager
    def _fed(self, inputs: np.ndarray | Arrays, kernels: str, threads: int, repack: bool) -> Iterator[Runner]:
        """A runner that reports its operators, holding the one batch `inputs`."""
        formats, batch = self._one_batch(inputs)
        with self._borrowed(kernels, threads, formats, observed=True, repack=repack) as runner:
            for name, array in batch.items():
                runner.inputs[name][...] = array
            yield runner

    def _one_batch(self, inputs: np.ndarray | Arrays) -> tuple[dict[str, str], dict[str, np.ndarray]]:
        """The formats of the inputs, and the arrays of a single run in the ports' shapes.

        Raises:
            DataError: the arrays are no single run.
        """
        arrays = self._named(inputs)
        formats = {port.name: _format_of(port, arrays[port.name]) for port in self.inputs}
        batch = {}
        for port in self.inputs:
            batches, filled = _batches(port, formats[port.name], arrays[port.name])
            if len(batches) != 1 or filled:
                raise DataError(
                    f"{self._native.name}: input '{port.name}' has shape {list(arrays[port.name].shape)}, give one batch of {list(port.shape)}"
                )
            batch[port.name] = batches[0]
        return formats, batch

    @contextmanager
    def _borrowed(
        self, kernels: str, threads: int, formats: Mapping[str, str], observed: bool = False, repack: bool = True
    ) -> Iterator[Runner]:
        """A runner that no other thread has meanwhile: an idle one, or a new one where there is none."""
        idle = self._idle.setdefault((kernels, threads, tuple(formats.items()), observed, repack), [])
        try:
            runner = idle.pop()
        except IndexError:
            runner = self._runner(kernels, threads, formats, observed, repack)
        try:
            yield runner
        finally:
            idle.append(runner)

    def _runner(
        self, kernels: str, threads: int, formats: Mapping[str, str], observed: bool, repack: bool
    ) -> Runner:
        ports = {port.name: port for port in self.inputs}
        for name, format in formats.items():
            if name not in ports:
                raise InputError(f"{self._native.name}: no input is named {name}; inputs: {', '.join(ports)}")
            if format == "raw" and ports[name].raw_dtype is None:
                raise InputError(f"{self._native.name}: input '{name}' has no table for raw data")
            if format not in ("raw", ports[name].format):
                raise InputError(f"{self._native.name}: input '{name}' takes {ports[name].format} or raw, not {format}")
        return Runner(self, kernels, threads, formats, observed, repack)


def _open(path: Path, check_weights: bool) -> Any:
    try:
        if not stat.S_ISREG(_mode(path)):  # opening a pipe would wait
            raise FormatError(f"{path}: not a file; give the path of a .ekm file")
        name = os.fspath(path)
        try:
            name.encode()
        except UnicodeEncodeError:  # a name that is no text cannot pass to C++; the content can
            return _native.Model.from_bytes(path.read_bytes(), ascii(name), check_weights)
        return _native.Model.open(name, check_weights)
    except FormatError as error:
        raise FormatError(f"{error}{unconverted(path)}") from None
    except OSError as error:
        raise FormatError(f"{path}: {(error.strerror or str(error)).lower()}; give the path of a .ekm file") from error


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except ValueError as error:  # a zero byte in the name
        raise FormatError(f"{os.fspath(path)!a}: {error}; give the path of a .ekm file") from error


def _check_threads(threads: int) -> None:
    if not isinstance(threads, (int, np.integer)) or not 1 <= threads <= MAX_THREADS:
        raise InputError(f"threads must be 1 to {MAX_THREADS}, not {threads}")


def _check_bindable(what: str, array: Any, shape: tuple[int, ...] | None, dtype: np.dtype | None) -> None:
    """Whether the runtime can work on the array in place."""
    assert shape is not None
    wanted = f"{what} takes a C-contiguous {dtype} array of shape {list(shape)} to be bound"
    if not isinstance(array, np.ndarray):
        raise DataError(f"{wanted}, not a {type(array).__name__}")
    if array.dtype != dtype or array.shape != shape:
        raise DataError(f"{wanted}, not {array.dtype} {list(array.shape)}")
    if not (array.flags.c_contiguous and array.flags.aligned):
        raise DataError(f"{wanted}, not a strided or misaligned view: give np.ascontiguousarray of it")


def _array(name: str, data: Any) -> np.ndarray:
    try:
        return np.asarray(data)
    except ValueError as error:  # rows of different lengths
        raise DataError(f"input '{name}' is no array: {first_line(error)}") from None


def _format_of(port: Port, array: np.ndarray) -> str:
    """Which of the runtime's formats the array is."""
    if port.format == "int8":
        if array.dtype == np.int8:
            return "int8"
        raise DataError(f"input '{port.name}' is the quantized tensor itself: give int8, not {array.dtype}")
    if np.issubdtype(array.dtype, np.floating):
        return "float"
    if port.raw_dtype is None:
        raise DataError(
            f"input '{port.name}' takes float32, not {array.dtype}: convert with --input-mean and --input-std "
            "to record how raw data is read"
        )
    if array.dtype != port.raw_dtype:
        raise DataError(f"input '{port.name}' takes float32 or raw {port.raw_dtype}, not {array.dtype}")
    return "raw"


def _batches(port: Port, format: str, array: np.ndarray) -> tuple[np.ndarray, int]:
    """`array` as [runs, *shape of the port], in the port's type, and how many samples were added to the last run."""
    shape = port.raw_shape if format == "raw" else port.shape
    dtype = port.raw_dtype if format == "raw" else port.dtype
    assert shape is not None and dtype is not None
    array = np.asarray(array, dtype)
    if _dense(array.shape) == _dense(shape):
        return array.reshape(1, *shape), 0
    batch = shape[0] if shape else 1
    missing = -len(array) % batch if array.ndim else 0
    samples_first = missing == 0 or shape[0] == port.shape[0]  # a file may permute raw data in any way
    if array.ndim and _dense(array.shape[1:]) == _dense(shape[1:]) and len(array) and samples_first:
        return fill(array, batch).reshape(-1, *shape), missing
    raise DataError(
        f"input '{port.name}' has shape {list(array.shape)}, expected {list(shape)} or [samples, "
        f"{', '.join(map(str, shape[1:]))}]"
    )


def _dense(shape: tuple[int, ...]) -> tuple[int, ...]:
    """`shape` without its dimensions of size 1."""
    return tuple(n for n in shape if n != 1)
