# SPDX-License-Identifier: Apache-2.0
"""The C runtime and the Python reader understand files alike: which they accept, and what they mean."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.errors import EdgekitError, FormatError
from edgekit.format.reader import read
from edgekit.format.schema import Dtype
from edgekit.format.writer import Packing, write
from edgekit.plan import plan
from edgekit.program import Accumulate, Program
from edgekit.reference.executor import run
from tests import random_programs as programs
from tests.format.test_reader import repaired

try:
    from edgekit.runtime import kernels
    from edgekit.runtime.model import Model
except (EdgekitError, ImportError) as error:
    pytest.skip(f"the C runtime is not built: {error}", allow_module_level=True)

PACKINGS = [Packing(sparse_below=0), Packing(sparse_below=3), Packing((8, 4), 0), Packing((16, 2), 0.7)]


def inputs(program: Program, rng: np.random.Generator) -> dict[str, np.ndarray]:
    ports = [program.tensors[name] for name in program.inputs]
    return {
        t.name: rng.normal(0, 5, t.shape).astype(np.float32)
        if t.dtype == Dtype.F32
        else rng.integers(-128, 128, t.shape).astype(np.int8)
        for t in ports
    }


def lively(program: Program, rng: np.random.Generator) -> Program:
    """`program` with biases that leave accumulators where outputs differ, planned."""
    for op in program.ops:
        if isinstance(op, Accumulate):
            op.bias = rng.integers(-3000, 3000, len(op.bias)).astype(np.int32)
    plan(program)
    return program


def assert_computes(data: bytes, program: Program, rng: np.random.Generator, **options: object) -> None:
    """Every tensor and every output of the file in the C runtime, against the reference on `program`."""
    feed = inputs(program, rng)
    outputs, written = run(program, feed, taps=True)
    model = Model(data)
    repacked = model.run(feed, **options)
    stored, tensors = model.trace(feed, **options)
    for name, expected in outputs.items():
        np.testing.assert_array_equal(repacked[name].reshape(expected.shape), expected)
        np.testing.assert_array_equal(stored[name].reshape(expected.shape), expected)
    names = list(program.tensors)
    for index, found in tensors.items():
        np.testing.assert_array_equal(found, written[names[index]].ravel(), err_msg=names[index])


@pytest.mark.parametrize("number", range(12))
@pytest.mark.parametrize("packing", PACKINGS)
def test_programs_compute_the_same(number: int, packing: Packing, rng: np.random.Generator) -> None:
    program = programs.random_program(rng, ops=1 + number) if number % 4 else programs.every_operator(rng)
    data = write(lively(program, rng), packing=packing)
    for name in kernels.available():
        assert_computes(data, read(data), rng, kernels=name, threads=1 + number % 3)


def c_refuses(data: bytes) -> str | None:
    try:
        Model(data)
    except FormatError as error:
        return str(error)
    return None


LAX = ("DEBUG", "port name", "comes from no binary32 scale", "the scales make", "the file needs STATE,")
"""What the Python reader checks and the runtime need not, because nothing it does depends on it; and the
one feature that only the runtime has."""


@pytest.mark.parametrize("packing", PACKINGS)
def test_both_refuse_the_same_files(packing: Packing, rng: np.random.Generator) -> None:
    good = write(lively(programs.random_program(rng, 8), rng), packing=packing)
    verdicts = []
    for _ in range(250):
        data = bytearray(good)
        for _ in range(int(rng.integers(1, 3))):
            at = int(rng.integers(16, len(data)))
            data[at] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.integers(256), data[at] ^ 1 << rng.integers(8)]))
        damaged = repaired(data)
        theirs = c_refuses(damaged)
        try:
            program = read(damaged)
        except FormatError as error:
            assert theirs or any(text in str(error) for text in LAX), f"the runtime accepts: {error}"
            verdicts.append(False)
        else:
            assert theirs is None, f"the runtime refuses what the reader accepts: {theirs}"
            assert_computes(damaged, program, rng, kernels="scalar")
            verdicts.append(True)
    assert 0 < sum(verdicts) < len(verdicts)
