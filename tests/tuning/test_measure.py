# SPDX-License-Identifier: Apache-2.0
"""What `edgekit tune` makes of times that are given: no clock is read here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from edgekit.bench.rounds import Times
from edgekit.commands import no_progress
from edgekit.format.reader import read
from edgekit.format.writer import write
from edgekit.kernel_sets import listed_kernels
from edgekit.plan import plan
from edgekit.program import Accumulate, Add, Program
from edgekit.runtime.model import OpTime
from edgekit.tuning.measure import (
    CLOSE,
    FAR,
    GAIN,
    ROUNDS,
    Group,
    candidates,
    layer_of,
    measure,
    measure_layers,
)
from edgekit.tuning.table import layer_name
from tests import random_programs as programs

KINDS = {kernel.name: kernel.kind for kernel in listed_kernels()}
SETS = ("scalar", "sse41", "avx2")


def program() -> Program:
    """Convolution, two equal additions, softmax."""
    b = programs.Builder(np.random.default_rng(5))
    x = b.conv2d(b.input("x", (1, 6, 6, 4), quantized=True))
    for _ in range(2):
        x = b.emit(Add, [x, x], x.shape, lo=-128, hi=127)
    b.output("y", b.softmax(b.reshape(x)))
    made = b.finish()
    plan(made)
    return made


class Pretended:
    """A machine whose kernels take the nanoseconds that they are given; a kernel without any computes nothing.

    Attributes:
        opened: what was prepared, by kernels of the operators that choices ask for.
    """

    kernel_sets: Sequence[str] = SETS

    def __init__(self, costs: Mapping[str, float], whole: Callable[[bool], float] = lambda tuned: 100 - tuned) -> None:
        self.costs, self.of_whole = costs, whole
        self.opened: list[list[str]] = []

    def open(self, model: bytes) -> Callable[[], list[OpTime]]:
        found = read(model)
        rows = []
        wanted = {(c.op, c.instead_of): c.kernel for c in found.choices}
        self.opened.append(sorted(wanted.values()))
        for number, op in enumerate(found.ops):
            default = self.default(op.opcode.name.lower())
            kernel = wanted.get((number, default), default)
            chosen = kernel != default and kernel in self.costs and KINDS[kernel] == KINDS[default]
            kernel = kernel if chosen else default
            rows.append(OpTime(number, op.opcode, kernel, int(self.costs.get(kernel, 10)), chosen))
        return lambda: rows

    @staticmethod
    def default(opcode: str) -> str:
        return {"reshape": "none", "quantize": "quantize_avx2", "dequantize": "dequantize_avx2", "softmax": "softmax_scalar"}.get(
            opcode, f"{opcode}_avx2"
        )

    def whole(self, model: bytes, seconds: float) -> Whole:
        return Whole(self.of_whole(bool(read(model).choices)))


class Whole:
    """Every second run is disturbed, and takes up to twice as long."""

    def __init__(self, nanoseconds: float) -> None:
        self.times, self._nanoseconds, self._rng = Times(), nanoseconds, np.random.default_rng(1)

    def round(self) -> None:
        self.times.add([self._nanoseconds, self._nanoseconds * self._rng.uniform(1, 2)])


COSTS = {"conv2d_avx2": 1000, "conv2d_sse41": 800, "conv2d_scalar": 990, "winograd_avx2": 5000, "add_avx2": 100, "add_sse41": 97}


def test_candidates_are_the_other_kernels_of_the_kind() -> None:
    assert candidates("add_avx2", SETS) == ["add_sse41", "add_scalar"]
    assert candidates("add_scalar", ("scalar",)) == []
    assert "winograd_avx2" in candidates("conv2d_avx2", SETS)
    assert not any("512" in name or "neon" in name for name in candidates("conv2d_avx2", SETS))


def test_the_fastest_kernel_is_taken_and_ties_are_left() -> None:
    made = program()
    found = measure(Pretended(COSTS), write(made), 1e-6, no_progress)
    layers = {layer.layer: (layer, count) for layer, count in found.layers}
    conv, count = layers[layer_name(made, made.ops[0])]
    assert (conv.default, conv.kernel, count) == ("conv2d_avx2", "conv2d_sse41", 1)
    assert conv.us == {"conv2d_avx2": 1.0, "conv2d_sse41": 0.8, "conv2d_scalar": 0.99}
    add, count = layers[layer_name(made, made.ops[1])]
    assert (add.default, add.kernel, count) == ("add_avx2", "add_avx2", 2)  # 3 % less are a tie
    assert not any("reshape" in name for name in layers)
    assert found.gains and found.ratio == 0.99
    assert found.default.min_us == 0.1 and found.tuned is not None and found.tuned.min_us == 0.099


def test_nothing_to_gain() -> None:
    found = measure(Pretended({"conv2d_avx2": 700, "conv2d_sse41": 700}), write(program()), 1e-6, no_progress)
    assert not any(layer.tuned for layer, _ in found.layers)
    assert (found.tuned, found.ratio, found.gains) == (None, 1.0, False)


@pytest.mark.parametrize("tuned", [100.0, 120.0])
def test_a_model_that_is_no_faster_gains_nothing(tuned: float) -> None:
    found = measure(Pretended(COSTS, lambda chosen: tuned if chosen else 100.0), write(program()), 1e-6, no_progress)
    assert any(layer.tuned for layer, _ in found.layers)
    assert not found.gains


def test_choices_of_the_file_do_not_count() -> None:
    made = program()
    plain, machine = write(made), Pretended(COSTS)
    from edgekit.format import choices
    from edgekit.program import Choice

    chosen = choices.replace(plain, [Choice(0, "conv2d_avx2", "conv2d_sse41")])
    assert measure(machine, chosen, 1e-6, no_progress) == measure(Pretended(COSTS), plain, 1e-6, no_progress)


def test_far_slower_kernels_are_tried_once() -> None:
    """Screening opens each candidate; measuring those that come close."""
    machine = Pretended({**COSTS, "conv2d_sse41": 1000 * FAR + 1, "conv2d_scalar": 1000 * CLOSE - 1})
    layers = {layer.layer: layer for layer, _ in measure_layers(machine, write(program()), 1e-6, no_progress)}
    conv = next(layer for name, layer in layers.items() if name.startswith("conv2d"))
    assert set(conv.us) == {"conv2d_avx2", "conv2d_scalar"}
    assert sum("conv2d_sse41" in names for names in machine.opened) == 1
    assert sum("conv2d_scalar" in names for names in machine.opened) == 2


def rounds(*times: float) -> Times:
    return Times([[time] for time in times])


@pytest.mark.parametrize(
    "times, taken",
    [
        ((100 * (1 - GAIN) - 1,) * ROUNDS, True),
        ((100 * (1 - GAIN) + 1,) * ROUNDS, False),
        ((50,) * 8 + (150,) * 12, False),  # the median of the rounds says no
        ((50,) * 12 + (101,) * 8, False),  # more than a quarter of the rounds do
        ((50,) * 16 + (101,) * 4, True),
    ],
)
def test_a_gain_must_be_clear(times: tuple[float, ...], taken: bool) -> None:
    group = Group("layer", "add_avx2", (0,), ("add_sse41",))
    layer = layer_of(group, [rounds(*[100.0] * ROUNDS), rounds(*times)])
    assert layer.tuned == taken


def test_a_slow_phase_of_the_machine_is_not_held_against_a_kernel() -> None:
    """Everybody was four times as slow in half of the rounds: what counts is the ratio within each."""
    slow = [100.0, 400.0] * (ROUNDS // 2)
    group = Group("layer", "add_avx2", (0,), ("add_sse41", "add_scalar"))
    layer = layer_of(group, [rounds(*slow), rounds(*[0.9 * t for t in slow]), rounds(*[0.8 * t for t in slow])])
    assert layer.kernel == "add_scalar"


def test_names_tell_layers_apart(rng: np.random.Generator) -> None:
    """Equal names, equal shapes and windows."""
    seen: dict[str, tuple[object, ...]] = {}
    for _ in range(20):
        made = programs.every_operator(rng)
        for op in made.ops:
            shapes = tuple(made.tensors[name].shape for name in (*op.inputs, *op.outputs))
            window = tuple(getattr(op, field, None) for field in ("strides", "dilations", "pads", "groups", "kernel"))
            what = (op.opcode, shapes, window if isinstance(op, Accumulate) else window[:3])
            assert seen.setdefault(layer_name(made, op), what) == what
    assert len(seen) > 100
