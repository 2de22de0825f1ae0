# SPDX-License-Identifier: Apache-2.0
"""Inputs for `verify`: the user's, or synthetic ones that can be made again from a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np

from edgekit.data import fill
from edgekit.errors import DataError, InputError
from edgekit.format.schema import Dtype
from edgekit.program import Program, Quant, Quantize
from edgekit.reference.executor import raw_numpy_dtype, raw_shape
from edgekit.verify.backends.base import Sample

GENERATOR = 1
"""Version of the synthetic samples; the same version and seed give the same bits."""

Inputs = Mapping[str, np.ndarray] | np.ndarray | Iterable[Mapping[str, np.ndarray]]


class Samples:
    """A stream of inferences that digests what passes through.

    Args:
        limit: samples at most; a model with a fixed batch takes several in one inference.
    """

    def __init__(self, program: Program, inputs: Inputs | None, limit: int | None, seed: int) -> None:
        self._seed = seed if inputs is None else None
        self._stream = synthetic(program, seed) if inputs is None else given(program, inputs)
        self._limit = limit
        self._given = _length(program, inputs)
        self.batch = samples_at_a_time(program)
        self._sha = hashlib.sha256()

    def count(self, inferences: int) -> int:
        """The samples of the first `inferences` inferences, without those that fill up the last one."""
        return min(n for n in (inferences * self.batch, self._limit, self._given) if n is not None)

    def __iter__(self) -> Iterator[Sample]:
        inferences = None if self._limit is None else -(-self._limit // self.batch)
        for views in islice(self._stream, inferences):
            sample = {name: np.asarray(array) for name, array in views.items()}  # scalars stay arrays
            for name, array in sample.items():
                self._sha.update(f"{name}:{array.dtype.str}:{array.shape};".encode())
                self._sha.update(np.ascontiguousarray(array).data)
            yield sample

    def describe(self) -> dict[str, Any]:
        """Where the samples came from, and the SHA-256 of all that passed: for reports and certificates."""
        source = {"source": "data"} if self._seed is None else {"source": "synthetic", "seed": self._seed}
        return {**source, "generator": GENERATOR, "sha256": self._sha.hexdigest()}


def samples_at_a_time(program: Program) -> int:
    """The batch of the model: the first dimension of its first input."""
    shape = program.tensors[program.inputs[0]].shape
    return int(shape[0]) if shape else 1


def given(program: Program, inputs: Inputs) -> Iterator[Sample]:
    """The user's data, one inference at a time; the last one is filled up by repeating its last sample.

    Raises:
        DataError: an input is missing, or an array does not divide into the declared shape.
    """
    if isinstance(inputs, np.ndarray):
        if len(program.inputs) != 1:
            raise DataError(
                f"the model has {len(program.inputs)} inputs: give a dict of {', '.join(program.inputs)}"
            )
        yield from _from_arrays(program, {program.inputs[0]: inputs})
    elif isinstance(inputs, Mapping):
        yield from _from_arrays(program, inputs)
    elif isinstance(inputs, (str, bytes)) or not isinstance(inputs, Iterable):
        raise DataError(f"inputs {inputs!a:.60}: give an array, a dict of arrays, or an iterable of such dicts")
    else:
        for sample in inputs:
            if not isinstance(sample, Mapping):
                raise DataError(f"inputs hold a {type(sample).__name__}: give a dict of arrays for each inference")
            yield {name: np.asarray(array) for name, array in sample.items()}


def synthetic(program: Program, seed: int) -> Iterator[Sample]:
    """Endless samples from a seed: first the directed ones, then noise over the whole range and beyond.

    A model that takes raw data gets it in every second sample. Random bits come straight from PCG64,
    whose stream NumPy guarantees; its distributions may change.
    """
    if not isinstance(seed, int) or seed < 0:
        raise InputError(f"seed {seed!r}: must be 0 or a larger integer")
    bits = np.random.PCG64(seed)
    raw = _raw_inputs(program)
    index = 0
    while True:
        yield {name: _synthetic_float(program, name, index, bits) for name in program.inputs}
        if raw:
            yield {
                name: _synthetic_raw(program, raw[name], bits)
                if name in raw
                else _synthetic_float(program, name, index, bits)
                for name in program.inputs
            }
        index += 1


def _synthetic_raw(program: Program, op: Quantize, bits: np.random.BitGenerator) -> np.ndarray:
    """Random bytes in the raw layout."""
    dtype = raw_numpy_dtype(op)
    assert dtype is not None
    return _noise(bits, raw_shape(program, op)).view(dtype)


def _noise(bits: np.random.BitGenerator, shape: tuple[int, ...]) -> np.ndarray:
    """uint8 of uniform random bits."""
    size = int(np.prod(shape, dtype=np.int64))
    words = bits.random_raw(-(-size // 8)).astype("<u8")
    return words.view(np.uint8)[:size].reshape(shape)


def _synthetic_float(program: Program, name: str, index: int, bits: np.random.BitGenerator) -> np.ndarray:
    """Sample number `index` of one input, as the program declares it."""
    tensor, shape = program.tensors[name], tuple(program.tensors[name].shape)
    q = _pattern(index, _noise(bits, shape).view(np.int8), shape)
    if tensor.dtype != Dtype.F32:
        return q
    quant = _input_quant(program, name)
    steps = q.astype(np.float32) - np.float32(quant.zero_point)
    if index == 4:
        return _specials(shape, quant)
    if index >= 5:  # noise between the steps: every eighth of a step, exact halves (ties) among them
        steps = steps + _noise(bits, shape).view(np.int8).astype(np.float32) / np.float32(8)
    return steps * np.float32(quant.scale)


def _pattern(index: int, noise: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """int8 values: all lowest, all highest, the two in turn, ramps, then noise."""
    position = np.arange(noise.size).reshape(shape)
    directed = {
        0: lambda: np.full(shape, -128, np.int8),
        1: lambda: np.full(shape, 127, np.int8),
        2: lambda: np.where(position % 2, 127, -128).astype(np.int8),
        3: lambda: position.astype(np.uint8).view(np.int8).reshape(shape),
    }
    return directed[index]() if index in directed else noise


def _specials(shape: tuple[int, ...], quant: Quant) -> np.ndarray:
    """What no data should hold and every backend must agree on: NaN, infinities, the largest and smallest numbers."""
    info = np.finfo(np.float32)
    values = np.array(
        [np.nan, np.inf, -np.inf, info.max, info.min, info.tiny, -info.tiny, 0.0, -0.0, 0.5, -0.5], np.float32
    )
    values[-2:] *= np.float32(quant.scale)
    return np.resize(values, shape)


def _input_quant(program: Program, name: str) -> Quant:
    tensors = [op.outputs[0] for op in program.ops if isinstance(op, Quantize) and op.inputs == [name]]
    quant = program.tensors[tensors[0]].quant if tensors else None
    return quant or Quant(np.float32(1), 0)


def _raw_inputs(program: Program) -> dict[str, Quantize]:
    """Inputs that take raw 8-bit data, and their operators."""
    return {
        op.inputs[0]: op for op in program.ops if isinstance(op, Quantize) and raw_numpy_dtype(op) is not None
    }


def _from_arrays(program: Program, arrays: Mapping[str, np.ndarray]) -> Iterator[Sample]:
    missing = [name for name in program.inputs if name not in arrays]
    if missing:
        raise DataError(f"input '{missing[0]}' is missing; the model reads {', '.join(program.inputs)}")
    stacks = {name: _stack(program, name, np.asarray(arrays[name])) for name in program.inputs}
    lengths = {len(stack) for stack in stacks.values()}
    if len(lengths) > 1:
        raise DataError(f"inputs have different numbers of samples: {sorted(lengths)}")
    for i in range(lengths.pop() if lengths else 1):
        yield {name: stack[i] for name, stack in stacks.items()}


def _stack(program: Program, name: str, array: np.ndarray) -> np.ndarray:
    """`array` as [inferences, *declared shape]."""
    op = _raw_inputs(program).get(name)
    tensor = program.tensors[name]
    shape = tuple(tensor.shape)
    if np.issubdtype(array.dtype, np.floating):
        array = array.astype(np.float32)
    elif op is not None and array.dtype == raw_numpy_dtype(op):
        shape = raw_shape(program, op)
    elif tensor.dtype == Dtype.F32:
        raise DataError(
            f"input '{name}' is {array.dtype}; the model takes float32 and has no table for raw data"
        )
    size = int(np.prod(shape, dtype=np.int64))
    batch = shape[0] if shape and shape[0] == tensor.shape[0] else 1  # a file may permute raw data in any way
    if array.size == 0 or array.size % (size // batch):
        raise DataError(f"input '{name}' has shape {list(array.shape)}, which is no number of {list(shape)}")
    return fill(array.reshape(-1, *_one(shape, batch)), batch).reshape(-1, *shape)


def _one(shape: tuple[int, ...], batch: int) -> tuple[int, ...]:
    """The shape of one sample of `batch`; that of all of them where `batch` is 1."""
    return shape if batch == 1 else shape[1:]


def _length(program: Program, inputs: Inputs | None) -> int | None:
    """The samples in arrays; None where a stream or a generator decides."""
    name = program.inputs[0]
    array = inputs.get(name) if isinstance(inputs, Mapping) else inputs
    if not isinstance(array, np.ndarray):
        return None
    return array.size * samples_at_a_time(program) // max(program.tensors[name].size, 1)
