# SPDX-License-Identifier: Apache-2.0
"""CHOICES: to the file and back, by the rules of docs/FORMAT.md; in the runtime it changes kernels and no bit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgekit.errors import EdgekitError, FormatError, InputError
from edgekit.format import choices, schema
from edgekit.format.reader import read
from edgekit.format.schema import CHOICE, KERNEL_NAME_BYTES, Opcode, Section
from edgekit.format.tiles import TileByLayer
from edgekit.format.writer import Packing, write
from edgekit.kernel_sets import listed_kernels
from edgekit.plan import plan
from edgekit.program import Choice, Conv2D, Program
from tests import random_programs as programs
from tests.format.test_reader import repaired
from tests.fuzz.edit import Edit
from tests.support import Build, Random, quant

CHOICES = [
    Choice(2, "conv2d_scalar", "conv2d_avx2"),
    Choice(0, "quantize_avx2", "quantize_scalar"),
    Choice(2, "conv2d_avx2", "conv2d_scalar"),
]


def test_a_file_holds_them_in_order(small: Program) -> None:
    small.choices = list(CHOICES)
    data = write(small)
    found = read(data).choices
    assert found == sorted(CHOICES, key=lambda choice: (choice.op, choice.instead_of))
    assert write(read(data)) == data


def test_the_longest_name_there_is_fits() -> None:
    longest = max((kernel.name for kernel in listed_kernels()), key=len)
    assert len(longest) < KERNEL_NAME_BYTES
    for name in (longest, "k" * KERNEL_NAME_BYTES):
        assert choices.decode(choices.encode([Choice(0, name, name)]), 1) == [Choice(0, name, name)]


@pytest.mark.parametrize("name", ["", "Conv2d", "conv2d scalar", "conv2d\0", "k" * 33, "naïve"])
def test_a_name_that_no_kernel_can_have(name: str) -> None:
    with pytest.raises(InputError, match="not a kernel's name"):
        choices.encode([Choice(0, "conv2d_scalar", name)])


def test_one_kernel_is_replaced_by_one() -> None:
    with pytest.raises(InputError, match="operator 2: two kernels in place of conv2d_avx2"):
        choices.encode([*CHOICES, Choice(2, "conv2d_avx2", "conv2d_sse41")])
    assert choices.encode([*CHOICES, *CHOICES]) == choices.encode(CHOICES)


@pytest.mark.parametrize("packing", [Packing(), Packing((8, 4), 0)])
def test_replace_changes_nothing_else(small: Program, packing: Packing) -> None:
    plain = write(small, packing=packing)
    small.choices = list(CHOICES)
    chosen = write(small, packing=packing)
    assert choices.replace(plain, CHOICES) == chosen
    assert choices.replace(chosen, ()) == choices.replace(plain, ()) == plain
    assert choices.replace(chosen, CHOICES[:1]) == choices.replace(plain, CHOICES[:1])


def convolution(rows: int, cols: int) -> Program:
    """3x3 with 64 channels in and out, and nothing else."""
    b, r = Build(), Random(3)
    x = b.input((1, rows, cols, 64), quant(0.1, 7))
    y = b.op(
        Conv2D, [x, b.constant(r.weights(64, 3, 3, 64))], (1, rows, cols, 64), quant(4.0, -3), pads=(1, 1, 1, 1),
        bias=np.zeros(64, np.int32), weight_scale=r.weight_scale(64), lo=-128, hi=127,
    )  # fmt: skip
    return b.finish(y)


def damaged(small: Program, change: Callable[[np.ndarray], object]) -> bytes:
    small.choices = list(CHOICES)
    edit = Edit(write(small))
    change(np.frombuffer(edit.sections[Section.CHOICES], CHOICE.dtype))
    return edit.file()


DAMAGE: dict[str, Callable[[np.ndarray], object]] = {
    "operator .* of": lambda records: records["op"].__setitem__(2, 999),
    "reserved 1": lambda records: records["reserved"].__setitem__(1, 1),
    "stands behind one": lambda records: records["op"].__setitem__(0, 2),
}
NAMES: dict[str, Callable[[np.ndarray], object]] = {
    "no kernel's name": lambda records: records["kernel"][0].__setitem__(0, ord("!")),
    "b'' is no kernel's name": lambda records: records["kernel"][1].__setitem__(slice(None), 0),
}


@pytest.mark.parametrize("message", [*DAMAGE, *NAMES])
def test_the_reader_refuses(small: Program, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        read(damaged(small, {**DAMAGE, **NAMES}[message]))


def test_a_target_gets_the_tiles_of_the_chosen_kernel() -> None:
    """Weights in the order of the kernel that will read them."""
    tiles = TileByLayer((("winograd_neon", (16, 1)), ("conv2d_shallow_neon", (8, 1)), ("conv2d_neon", (4, 16))))
    program = convolution(16, 16)
    plan(program)

    def tile(*chosen: Choice) -> tuple[int, int]:
        program.choices = list(chosen)
        edit = Edit(write(program, packing=Packing(tile=tiles, sparse_below=0)))
        record = edit.tensor(edit.op(Opcode.CONV2D), 1)
        return int(record["tile_n"]), int(record["tile_k"])

    assert tile() == (16, 1)
    assert tile(Choice(0, "winograd_neon", "conv2d_neon")) == (4, 16)
    assert tile(Choice(0, "conv2d_neon", "conv2d_shallow_neon")) == (16, 1)
    assert tile(Choice(0, "winograd_neon", "conv2d_of_tomorrow")) == (16, 1)


# ---- In the runtime ------------------------------------------------------------------------------

try:
    from edgekit.runtime import kernels
    from edgekit.runtime.model import Model
    from tests.format.test_runtime_agrees import assert_computes, c_refuses, lively
except EdgekitError:
    needs_runtime = pytest.mark.skip("the C runtime is not built")
else:
    needs_runtime = pytest.mark.skipif(False, reason="")


@needs_runtime
@pytest.mark.parametrize("message", DAMAGE)
def test_the_runtime_refuses(small: Program, message: str) -> None:
    assert c_refuses(damaged(small, DAMAGE[message])) is not None


@needs_runtime
@pytest.mark.parametrize("message", NAMES)
def test_the_runtime_passes_names_over(small: Program, message: str) -> None:
    assert c_refuses(damaged(small, NAMES[message])) is None


@needs_runtime
@pytest.mark.parametrize("packing", [Packing(sparse_below=0), Packing(sparse_below=3), Packing((16, 4), 0)])
def test_every_kernel_that_can_be_forced_computes_the_same(packing: Packing, rng: np.random.Generator) -> None:
    """Each kernel of this processor, in place of whatever the runtime would take, with every kernel set."""
    program = lively(programs.every_operator(rng), rng)
    plain = write(program, packing=packing)
    by_kind: dict[str, list[str]] = {}
    for kernel in listed_kernels():
        if kernel.set in kernels.available():
            by_kind.setdefault(kernel.kind, []).append(kernel.name)
    defaults = {name: {row.op: row.kernel for row in Model(plain).profile(kernels=name, runs=1)} for name in kernels.available()}
    kinds = {kernel.name: kernel.kind for kernel in listed_kernels()}
    forced = set()
    for number in range(max(map(len, by_kind.values()))):
        wanted = [
            Choice(op, default, by_kind[kinds[default]][number])
            for rows in defaults.values()
            for op, default in rows.items()
            if default in kinds and number < len(by_kind[kinds[default]]) and by_kind[kinds[default]][number] != default
        ]
        data = choices.replace(plain, wanted)
        for name in kernels.available():
            rows = Model(data).profile(kernels=name, runs=1)
            asked = {c.op: c.kernel for c in wanted if c.instead_of == defaults[name][c.op]}
            assert all(row.kernel == (asked[row.op] if row.chosen else defaults[name][row.op]) for row in rows)
            forced |= {row.kernel for row in rows if row.chosen}
            assert_computes(data, program, rng, kernels=name, threads=1 + number % 3)
    assert {"conv2d_scalar", "add_scalar", "softmax_scalar"} & forced or kernels.available() == ["scalar"]


@needs_runtime
@pytest.mark.parametrize("name", ["avx512vnni", "avx2", "sse41"])
def test_a_choice_overrides_an_estimate(name: str, rng: np.random.Generator) -> None:
    """Winograd where it computes the layer, but too few outputs pay for its transforms, and the other way round."""
    if name not in kernels.available():
        pytest.skip(f"this processor does not have {name}")
    taken = {}
    for rows, cols in ((3, 5), (24, 24)):
        program = lively(convolution(rows, cols), rng)
        plain = write(program)
        (default,) = {row.kernel for row in Model(plain).profile(kernels=name, runs=1)}
        other = f"conv2d_{name}" if default == f"winograd_{name}" else f"winograd_{name}"
        data = choices.replace(plain, [Choice(0, default, other)])
        (row,) = Model(data).profile(kernels=name, runs=1)
        assert (row.kernel, row.chosen) == (other, True)
        assert_computes(data, program, rng, kernels=name, threads=2)
        taken[rows] = default
    assert taken == {3: f"conv2d_{name}", 24: f"winograd_{name}"}


@needs_runtime
def test_a_kernel_of_a_set_that_may_not_be_used_is_not_taken(small: Program) -> None:
    if len(kernels.available()) < 2:
        pytest.skip("this processor has one kernel set")
    plain = write(small)
    better = [k.name for k in listed_kernels() if k.kind == "conv2d" and k.set == kernels.best()] or ["conv2d_avx2"]
    ops = [row.op for row in Model(plain).profile(kernels="scalar", runs=1) if row.kernel == "conv2d_scalar"]
    data = choices.replace(plain, [Choice(op, "conv2d_scalar", better[-1]) for op in ops])
    assert ops
    assert not any(row.chosen for row in Model(data).profile(kernels="scalar", runs=1))


@needs_runtime
def test_hostile_choices_change_no_bit(rng: np.random.Generator) -> None:
    """Records of any bytes: refused, or passed over, or a kernel that computes the same. Never a crash."""
    program = lively(programs.random_program(rng, 8), rng)
    plain = write(program)
    names = [kernel.name.encode() for kernel in listed_kernels()]
    loaded = 0
    for _ in range(60):
        records = np.zeros(int(rng.integers(1, 40)), CHOICE.dtype)
        for record in records:
            record["op"] = rng.integers(len(program.ops) + 1)
            record["reserved"] = rng.integers(60) == 0
            for field in ("instead_of", "kernel"):
                name = names[rng.integers(len(names))] if rng.integers(4) else rng.bytes(int(rng.integers(33)))
                record[field] = np.frombuffer(name.ljust(KERNEL_NAME_BYTES, b"\0"), np.uint8)
        ordered = sorted(records, key=lambda record: (record["op"], record["instead_of"].tobytes()))
        edit = Edit(plain)
        edit.sections[Section.CHOICES] = bytearray(b"".join(record.tobytes() for record in ordered))
        data = edit.file()
        if c_refuses(data) is None:
            loaded += 1
            for name in kernels.available():
                assert_computes(data, program, rng, kernels=name)
    assert loaded


@needs_runtime
def test_a_damaged_section_is_refused_by_both_or_by_neither(rng: np.random.Generator) -> None:
    program = lively(programs.random_program(rng, 6), rng)
    program.choices = [Choice(op, "conv2d_scalar", "add_scalar") for op in range(len(program.ops))]
    good = write(program)
    table = np.frombuffer(good, schema.HEADER.dtype, 1)[0]["section"].reshape(-1, 2)
    begin, size = (int(n) for n in table[Section.CHOICES])
    verdicts = set()
    for _ in range(200):
        data = bytearray(good)
        data[int(rng.integers(begin, begin + size))] = int(rng.choice([0, 1, 255, rng.integers(256)]))
        changed = repaired(data)
        try:
            read(changed)
        except FormatError as error:
            assert c_refuses(changed) or "no kernel's name" in str(error)
            verdicts.add(False)
        else:
            assert c_refuses(changed) is None
            verdicts.add(True)
    assert verdicts == {True, False}
