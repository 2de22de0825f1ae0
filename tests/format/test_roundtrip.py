# SPDX-License-Identifier: Apache-2.0
"""Program -> file -> program, over random programs of every operator."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

import numpy as np
import pytest

from edgekit.format.reader import read
from edgekit.format.schema import Opcode
from edgekit.format.writer import Packing, write
from edgekit.plan import plan
from edgekit.program import Accumulate, PRelu, Program, multiplier, prelu_multipliers
from tests import random_programs as programs

PACKINGS = [Packing(sparse_below=0), Packing(), Packing(tile=(8, 4), sparse_below=0), Packing((16, 2), 0.7)]
INFERRED = {"weight_scale", "slope"}
"""Attributes that the file does not hold; they come back equivalent."""


def equal(a: object, b: object) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if is_dataclass(a):
        return type(a) is type(b) and all(
            equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a) if f.name not in INFERRED
        )
    return a == b


def assert_same(a: Program, b: Program) -> None:
    assert (a.name, a.inputs, a.outputs, a.arena_bytes) == (b.name, b.inputs, b.outputs, b.arena_bytes)
    used = {*a.inputs, *a.outputs, *(name for op in a.ops for name in (*op.inputs, *op.outputs))}
    assert [n for n in a.tensors if n in used] == list(b.tensors)
    for name, tensor in b.tensors.items():
        assert equal(a.tensors[name], tensor), name
    for ours, theirs in zip(a.ops, b.ops, strict=True):
        assert equal(ours, theirs), ours
        if isinstance(ours, Accumulate):
            np.testing.assert_array_equal(multiplier(a, ours), multiplier(b, theirs))
        if isinstance(ours, PRelu):
            np.testing.assert_array_equal(prelu_multipliers(a, ours)[1], prelu_multipliers(b, theirs)[1])


@pytest.mark.parametrize("number", range(24))
def test_random_programs_come_back(number: int, rng: np.random.Generator) -> None:
    program = programs.random_program(rng, ops=1 + number % 16)
    plan(program)
    for packing in PACKINGS:
        data = write(program, packing=packing)
        again = read(data)
        assert_same(program, again)
        assert write(again, packing=packing) == data


def test_every_operator_comes_back(rng: np.random.Generator) -> None:
    program = programs.every_operator(rng)
    plan(program)
    assert {op.opcode for op in program.ops} == {*Opcode} - {Opcode.CALL}
    for packing in PACKINGS:
        assert_same(program, read(write(program, packing=packing)))


def test_stripped_names_change_nothing_else(rng: np.random.Generator) -> None:
    program = programs.random_program(rng)
    plan(program)
    full, stripped = write(program), write(program, strip_debug=True)
    assert len(stripped) < len(full)
    again = read(stripped)
    assert (again.inputs, again.outputs) == (program.inputs, program.outputs)
    assert write(again, strip_debug=True) == stripped
    rename = dict(zip(again.tensors, read(full).tensors, strict=True))
    for ours, theirs in zip(program.ops, again.ops, strict=True):
        assert type(ours) is type(theirs)
        assert ours.outputs == [rename[name] for name in theirs.outputs]


def test_a_stripped_file_may_have_ports_with_the_reader_s_own_names(rng: np.random.Generator) -> None:
    builder = programs.Builder(rng)
    builder.output("t0", builder.lut(builder.input("t1", (2, 3), quantized=True)))
    program = builder.finish()
    plan(program)
    again = read(write(program, strip_debug=True))
    assert (again.inputs, again.outputs) == (["t1"], ["t0"])


def test_scalars_have_rank_zero(rng: np.random.Generator) -> None:
    builder = programs.Builder(rng)
    builder.output("y", builder.lut(builder.input("x", (), quantized=True)))
    program = builder.finish()
    plan(program)
    assert_same(program, read(write(program)))


def test_extreme_multipliers_come_back(rng: np.random.Generator) -> None:
    """Scales whose quotient has to be searched near both ends of the range."""
    builder = programs.Builder(rng)
    x = builder.input("x", (4, 6), quantized=True)
    y = builder.dense(x)
    builder.output("y", y)
    program = builder.finish()
    op = program.ops[0]
    count = len(op.bias)
    for exponent in (-60, -20, 0, 30):
        op.weight_scale = (rng.uniform(1, 2, count) * 2.0**exponent).astype(np.float32)
        plan(program)
        assert_same(program, read(write(program)))


def test_every_feasible_multiplier_is_recovered(rng: np.random.Generator) -> None:
    from edgekit.format.reader import _recover

    for _ in range(300):
        sx, sy = (np.float32(2.0 ** rng.uniform(-20, 20)) for _ in range(2))
        s = (2.0 ** rng.uniform(-20, 20, 500)).astype(np.float32)
        m = (sx * s) / sy
        np.testing.assert_array_equal((sx * _recover(m, sx, sy, "multiplier")) / sy, m)
