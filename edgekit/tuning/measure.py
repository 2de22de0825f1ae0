# SPDX-License-Identifier: Apache-2.0
"""Measures every kernel that can take a layer, in the model itself.

A file that wants other kernels is the model with a section CHOICES, so what is measured is what will run. Variant
number i of a model wants for each layer the candidate number i. Variants take turns in short rounds; each layer is
timed inside whole runs, with caches as its neighbours leave them. What a layer takes is compared within rounds, where
all saw the same machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from edgekit.bench.rounds import Contender, Times, interleave
from edgekit.commands import Progress
from edgekit.format import choices as section
from edgekit.format.reader import read
from edgekit.kernel_sets import listed_kernels
from edgekit.program import Choice, Program
from edgekit.runtime.model import OpTime
from edgekit.tuning.table import Layer, layer_name

ROUNDS = 20
"""In which variants take turns."""
RUNS = 3
"""The least runs of a variant in a round."""
CLOSE, FAR = 1.25, 4.0
"""A candidate that takes more than FAR times as long as the default in its first run, or CLOSE times in the best of
some, is not measured further."""
GAIN = 0.05
"""A kernel is taken if it needs this much less than the default one; less is a tie (`bench.rounds`)."""

Run = Callable[[], Sequence[OpTime]]
"""Runs a model once: each operator's time."""


class Whole(Contender, Protocol):
    """A model that is timed as a whole."""

    @property
    def times(self) -> Times: ...


class Machine(Protocol):
    """Where models are measured."""

    @property
    def kernel_sets(self) -> Sequence[str]:
        """Those that may be used, slowest first."""

    def open(self, model: bytes) -> Run:
        """Prepares a `.ekm` file for runs with these kernel sets, each operator timed."""

    def whole(self, model: bytes, seconds: float) -> Whole:
        """Prepares it for rounds of `seconds`, without a clock inside."""


@dataclass(frozen=True)
class Group:
    """Layers of one shape that the runtime computes with one kernel.

    Attributes:
        ops: indexes of the operators.
        candidates: other kernels that compute all of them.
    """

    layer: str
    default: str
    ops: tuple[int, ...]
    candidates: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measured:
    """What was found of a model.

    Attributes:
        layers: those that have a kernel, each with the one to take and how many the model has of them.
        default, tuned: whole runs without and with these kernels, interleaved; None where no layer has a faster one.
    """

    layers: list[tuple[Layer, int]]
    default: Times
    tuned: Times | None

    @property
    def ratio(self) -> float:
        """How long the best tuned run takes, as a share of the best one without. What a model gains is mostly less than what
        other work on the machine takes from a run, and the best runs are those that it disturbed the least."""
        return 1.0 if self.tuned is None else self.tuned.min_us / self.default.min_us

    @property
    def gains(self) -> bool:
        """Whether the whole model is faster with the kernels of its layers."""
        return self.ratio < 1


def measure(machine: Machine, model: bytes, seconds: float, progress: Progress) -> Measured:
    """Finds the kernels to take for the layers of a model, and what the whole model gains from them.

    Args:
        model: a `.ekm` file; what kernels it wants does not count.
        seconds: measuring time for each variant of the model.
    """
    plain = section.replace(model, ())
    layers = measure_layers(machine, plain, seconds, progress)
    choices = [
        Choice(op, layer.default, layer.kernel) for layer, group in layers if layer.tuned for op in group.ops
    ]
    contenders = [machine.whole(plain, seconds / ROUNDS)]
    if choices:
        contenders.append(machine.whole(section.replace(plain, choices), seconds / ROUNDS))
    interleave(contenders, ROUNDS, lambda done: progress("measuring the model", done, ROUNDS))
    times = [contender.times for contender in contenders]
    return Measured([(layer, len(group.ops)) for layer, group in layers], times[0], times[1] if choices else None)


def measure_layers(
    machine: Machine, plain: bytes, seconds: float, progress: Progress
) -> list[tuple[Layer, Group]]:
    """The layers of a model without choices."""
    run = machine.open(plain)
    run()
    groups = _screened(machine, plain, groups_of(read(plain), run()), run, progress)
    variants = [_Variant(run, seconds)]
    for number in range(_most(groups)):
        variants.append(_Variant(machine.open(section.replace(plain, variant_choices(groups, number))), seconds))
    interleave(variants, ROUNDS, lambda done: progress("measuring layers", done, ROUNDS))
    return [(layer_of(group, [variant.times(group.ops) for variant in variants]), group) for group in groups]


def groups_of(program: Program, rows: Sequence[OpTime]) -> list[Group]:
    """The layers, in the order of the program; `rows` tell the kernels that the runtime takes by itself."""
    found: dict[tuple[str, str], list[int]] = {}
    kinds = {kernel.name for kernel in listed_kernels()}
    for row in rows:
        if row.kernel in kinds:
            found.setdefault((layer_name(program, program.ops[row.op]), row.kernel), []).append(row.op)
    return [Group(layer, default, tuple(ops)) for (layer, default), ops in found.items()]


def candidates(default: str, kernel_sets: Sequence[str]) -> list[str]:
    """Other kernels of these sets for the same kind of layer, best first."""
    kind = next(kernel.kind for kernel in listed_kernels() if kernel.name == default)
    return [k.name for k in listed_kernels() if k.kind == kind and k.set in kernel_sets and k.name != default]


def variant_choices(groups: Sequence[Group], number: int) -> list[Choice]:
    """What a file says that wants candidate `number` of each group, where there are as many."""
    return [
        Choice(op, group.default, group.candidates[number])
        for group in groups
        if number < len(group.candidates)
        for op in group.ops
    ]


def _most(groups: Sequence[Group]) -> int:
    """How many candidates a group has at most."""
    return max((len(group.candidates) for group in groups), default=0)


def _screened(
    machine: Machine, plain: bytes, groups: Sequence[Group], run: Run, progress: Progress
) -> list[Group]:
    """The groups with the candidates that compute them and are not far slower than the default."""
    base = _best([run() for _ in range(RUNS)])
    every = [replace(g, candidates=tuple(candidates(g.default, machine.kernel_sets))) for g in groups]
    kept: list[list[str]] = [[] for _ in groups]
    for number in range(_most(every)):
        variant = machine.open(section.replace(plain, variant_choices(every, number)))
        for place, name in _close(variant, every, number, base).items():
            kept[place].append(name)
        progress("trying kernels", number + 1, _most(every))
    return [replace(g, candidates=tuple(names)) for g, names in zip(groups, kept, strict=True)]


def _close(variant: Run, groups: Sequence[Group], number: int, base: dict[int, int]) -> dict[int, str]:
    """Place of each group whose candidate `number` computes it and comes close to the default's times, `base`."""
    first = variant()
    taken = {row.op: row.kernel for row in first if row.chosen}
    found = {
        place: group.candidates[number]
        for place, group in enumerate(groups)
        if number < len(group.candidates)
        and all(taken.get(op) == group.candidates[number] for op in group.ops)
        and _sum(_best([first]), group) <= FAR * _sum(base, group)
    }
    if not found:
        return {}
    best = _best([variant() for _ in range(RUNS)])
    return {place: name for place, name in found.items() if _sum(best, groups[place]) <= CLOSE * _sum(base, groups[place])}


def _best(runs: Sequence[Sequence[OpTime]]) -> dict[int, int]:
    """The least nanoseconds of each operator."""
    return {rows[0].op: min(row.nanoseconds for row in rows) for rows in zip(*runs, strict=True)}


def _sum(times: dict[int, int], group: Group) -> int:
    return sum(times[op] for op in group.ops)


class _Variant:
    """A contender in `interleave`: the model with other kernels."""

    def __init__(self, run: Run, seconds: float) -> None:
        self._run = run
        self._rounds: list[dict[int, float]] = []
        taken = sum(_best([run() for _ in range(RUNS)]).values()) or 1
        self._runs = max(RUNS, int(seconds * 1e9 / ROUNDS / taken))

    def round(self) -> None:
        self._run()  # brings code and weights back into the caches that others used
        runs = [self._run() for _ in range(self._runs)]
        medians = np.median([[row.nanoseconds for row in rows] for rows in runs], axis=0)
        self._rounds.append({row.op: float(median) for row, median in zip(runs[0], medians, strict=True)})

    def times(self, ops: Sequence[int]) -> Times:
        """One number a round: the mean of the operators' medians."""
        return Times([[sum(times[op] for op in ops) / len(ops)] for times in self._rounds])


def layer_of(group: Group, times: Sequence[Times]) -> Layer:
    """What to take for a group, from the times of the default and of each candidate.

    A candidate must be faster by GAIN in the median, and in three quarters of the rounds at all.
    """
    names = (group.default, *group.candidates)
    own, best, least = times[0], group.default, 1 - GAIN
    for name, other in zip(group.candidates, times[1:], strict=False):  # a group may have fewer candidates than another
        _, middle, high = other.paired_ratios(own)
        if middle < least and high < 1:
            best, least = name, middle
    us = {name: round(t.median_us, 3) for name, t in zip(names, times, strict=False)}
    return Layer(group.layer, group.default, best, us)
