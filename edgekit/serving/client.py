# SPDX-License-Identifier: Apache-2.0
"""The other end of csrc/serve/serve.c, over any pipes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from edgekit.errors import CheckError
from edgekit.format import schema
from edgekit.format.schema import Dtype
from edgekit.kernel_sets import kernel_sets, ladder
from edgekit.program import Program, Tensor, tensor_bytes
from edgekit.serving import protocol
from edgekit.serving.pipes import Pipes

MAX_NAME_BYTES = 255
"""Of a kernel or a kernel set; a longer one is no name."""


class Show(IntEnum):
    """What a run shows of every operator's result."""

    OUTPUTS = protocol.SHOW_OUTPUTS
    """Nothing: nobody watches."""
    DIGESTS = protocol.SHOW_DIGESTS
    VALUES = protocol.SHOW_VALUES
    TIMES = protocol.SHOW_TIMES


@dataclass(frozen=True)
class Capabilities:
    """What the other side can run.

    Attributes:
        processors: how many there are.
        kernel_sets: name -> its bit, slowest first.
    """

    processors: int
    kernel_sets: dict[str, int]

    def bits(self, kernels: str) -> int | None:
        """The bits of a kernel set and of those that it falls back to; None where it is not there."""
        if kernels not in self.kernel_sets:
            return None
        return sum(self.kernel_sets.get(name, 0) for name in ladder(kernels))


@dataclass(frozen=True)
class Prepared:
    """An instance of the model.

    Attributes:
        number: names it in requests.
        memory_bytes: `ek_memory_needed` for its kernels and threads.
        scratch_bytes: the part of it that is scratch of a thread.
        nanoseconds: that `ek_create` took; 0 without a clock.
        ops: operator of every step, by its index in the file.
        kernels: kernel of every step; empty where it needs none.
    """

    number: int
    memory_bytes: int
    scratch_bytes: int
    nanoseconds: int
    ops: list[int]
    kernels: list[str]


@dataclass(frozen=True)
class Reply:
    """One inference.

    Attributes:
        tensors: index in the file -> what was asked for of it: SHA-256, content, or nanoseconds (uint64).
        outputs: content of the model's outputs.
        nanoseconds: that the run took; 0 without a clock.
        stack_bytes: the most that was ever in use; 0 where that is not known.
    """

    tensors: dict[int, bytes]
    outputs: list[bytes]
    nanoseconds: int
    stack_bytes: int

    def arrays(self, program: Program) -> dict[str, np.ndarray]:
        """The outputs by name, float32 or int8."""
        return {
            name: np.frombuffer(content, np.float32 if tensor.dtype == Dtype.F32 else np.int8).reshape(tensor.shape)
            for name, content in zip(program.outputs, self.outputs, strict=True)
            for tensor in [program.tensors[name]]
        }


class Client:
    """Requests and their replies. Every method raises what the pipes raise if the other side ends or hangs."""

    def __init__(self, pipes: Pipes) -> None:
        self._pipes = pipes
        self._program: Program | None = None
        self._instances = 0

    def hello(self) -> Capabilities:
        """Asks what there is.

        Raises:
            CheckError: the other side speaks another protocol.
        """
        self._pipes.write(_number(protocol.HELLO))
        version = self._read_number()
        if version != protocol.VERSION:
            raise CheckError(f"{self._pipes.name}: answers in protocol {version}, not {protocol.VERSION}")
        processors, sets = self._read_number(), self._read_most(len(kernel_sets()))
        bits = {name: bit for bit, name in ((self._read_number(), self._read_text()) for _ in range(sets))}
        if not bits or not bits.keys() <= kernel_sets().keys():
            raise self._nonsense("kernel sets")
        return Capabilities(processors, bits)

    def load(self, program: Program, model: bytes) -> int:
        """Opens a model, given as its file and what that holds, and returns the nanoseconds it took; the one
        before is gone.

        Raises:
            CheckError: the runtime refuses the model.
        """
        return self._open(program, _number(protocol.MODEL) + _number(len(model)) + model)

    def load_file(self, program: Program, path: str) -> int:
        """The same for a file where the other side is; reading it takes part of the time."""
        return self._open(program, _number(protocol.FILE) + _text(path))

    def prepare(self, kernel_sets: int = 0, threads: int = 1, repack: bool = False) -> Prepared:
        """Makes an instance of the model.

        Args:
            kernel_sets: bits of `Capabilities.kernel_sets`; 0 for all.
            repack: keep weights in the kernels' order.

        Raises:
            CheckError: the runtime cannot.
        """
        assert self._program is not None, "no model is loaded"
        self._pipes.write(b"".join(map(_number, (protocol.PREPARE, kernel_sets, threads, int(repack)))))
        self._check_status()
        memory, scratch, time = self._read_number(), self._read_number(), self._read_time()
        steps = [(self._read_number(), self._read_text()) for _ in range(self._read_most(schema.MAX_RECORDS))]
        if any(op >= len(self._program.ops) for op, _ in steps):
            raise self._nonsense("an operator")
        self._instances += 1
        return Prepared(self._instances - 1, memory, scratch, time, [op for op, _ in steps], [name for _, name in steps])

    def run(self, instance: Prepared, sample: Mapping[str, np.ndarray], show: Show = Show.OUTPUTS) -> Reply:
        """Runs one sample: an array per input as the program declares it, or raw 8-bit data."""
        assert self._program is not None, "no model is loaded"
        program = self._program
        request = [_number(protocol.RUN), _number(instance.number), _number(show)]
        for name in program.inputs:
            array = np.ascontiguousarray(sample[name])
            request += [_number(input_format(program, name, array)), array.tobytes()]
        self._pipes.write(b"".join(request))
        tensors = self._read_tensors(program, show)
        outputs = [self._pipes.read(tensor_bytes(program.tensors[name])) for name in program.outputs]
        return Reply(tensors, outputs, self._read_time(), self._read_number())

    def time(self, instance: Prepared, runs: int) -> np.ndarray:
        """Nanoseconds of each of `runs` runs with the inputs of the last one; uint64."""
        times = []
        for first in range(0, runs, protocol.MAX_RUNS):
            count = min(runs - first, protocol.MAX_RUNS)
            self._pipes.write(_number(protocol.TIME) + _number(instance.number) + _number(count))
            times.append(np.frombuffer(self._pipes.read(8 * count), "<u8"))
        return np.concatenate(times)

    def end(self) -> None:
        """Says goodbye."""
        self._pipes.write(_number(protocol.END))

    def _open(self, program: Program, request: bytes) -> int:
        self._program, self._instances = None, 0
        self._pipes.write(request)
        self._check_status()
        self._program = program
        return self._read_time()

    def _check_status(self) -> None:
        status, offset = self._read_number(), self._read_number()
        if status:
            name = protocol.STATUS_NAMES.get(status, "unknown")
            raise CheckError(
                f"{self._pipes.name}: the runtime refuses the model: status {status} ({name}), file offset {offset}"
            )

    def _read_tensors(self, program: Program, show: Show) -> dict[int, bytes]:
        """Those of all operators; if the other side ends, the one that it was at is named."""
        tensors: dict[int, bytes] = {}
        sizes = [_shown_bytes(tensor, show) for tensor in program.tensors.values()]
        for op in [*(program.ops if show != Show.OUTPUTS else []), None]:
            self._pipes.doing = f"in {op.opcode.name} '{op.name}': " if op else ""
            if (index := self._read_number()) == protocol.NO_TENSOR:
                break
            if op is None or index >= len(sizes) or (count := self._read_number()) != sizes[index]:
                raise self._nonsense("a tensor")
            tensors[index] = self._pipes.read(count)
        self._pipes.doing = ""
        return tensors

    def _read_number(self) -> int:
        return int.from_bytes(self._pipes.read(4), "little")

    def _read_time(self) -> int:
        return int.from_bytes(self._pipes.read(8), "little")

    def _read_most(self, most: int) -> int:
        """A count that says how much follows."""
        if (count := self._read_number()) > most:
            raise self._nonsense("a count")
        return count

    def _read_text(self) -> str:
        try:
            return self._pipes.read(self._read_most(MAX_NAME_BYTES)).decode()
        except UnicodeDecodeError:
            raise self._nonsense("a name") from None

    def _nonsense(self, what: str) -> CheckError:
        return CheckError(f"{self._pipes.name}: {self._pipes.doing}replies what cannot be {what}")


def _shown_bytes(tensor: Tensor, show: Show) -> int:
    """How many bytes show a tensor."""
    return {Show.DIGESTS: 32, Show.TIMES: 8}.get(show) or tensor_bytes(tensor)


def input_format(program: Program, name: str, array: np.ndarray) -> int:
    """The number of the ek_format in which an input array is bound."""
    if array.dtype == np.float32:
        return protocol.FORMAT_FLOAT
    return protocol.FORMAT_RAW if program.tensors[name].dtype == Dtype.F32 else protocol.FORMAT_INT8


def _number(value: int) -> bytes:
    return value.to_bytes(4, "little")


def _text(text: str) -> bytes:
    data = text.encode()
    return _number(len(data)) + data
