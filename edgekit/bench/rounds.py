# SPDX-License-Identifier: Apache-2.0
"""Interleaved rounds, and what is said of the times that come out of them.

Machines are shared and their clocks move. Contenders therefore take turns in short rounds, A B C, B C A, C A B, so
that each sees the same disturbances. A claim is a ratio of medians within one run; gaps below five percent are ties.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

import numpy as np


class Contender(Protocol):
    def round(self) -> None:
        """Runs for one round, and keeps its times."""


@dataclass
class Times:
    """Nanoseconds of a run, by round."""

    rounds: list[list[float]] = field(default_factory=list)

    def add(self, times: Iterable[float]) -> None:
        self.rounds.append(list(times))

    def _all(self) -> np.ndarray:
        return np.fromiter(chain.from_iterable(self.rounds), np.float64)

    @property
    def count(self) -> int:
        """How often a clock was read."""
        return sum(map(len, self.rounds))

    @property
    def median_us(self) -> float:
        return float(np.median(self._all())) / 1e3

    @property
    def min_us(self) -> float:
        return float(self._all().min()) / 1e3

    @property
    def p99_us(self) -> float:
        return float(np.percentile(self._all(), 99)) / 1e3

    def ratio(self, other: Times) -> float:
        """How many times as long as `other` this takes: the ratio of medians."""
        return self.median_us / other.median_us

    def paired_ratios(self, other: Times) -> tuple[float, float, float]:
        """Quartiles and median of the ratios within each round, where both saw the same machine: low, middle, high."""
        ratios = [np.median(a) / np.median(b) for a, b in zip(self.rounds, other.rounds, strict=True)]
        low, middle, high = np.percentile(ratios, [25, 50, 75])
        return float(low), float(middle), float(high)


def order(count: int, turn: int) -> list[int]:
    """Who comes when in a round: everyone is first equally often."""
    return [(turn + i) % count for i in range(count)]


def interleave(
    contenders: Sequence[Contender], rounds: int, after: Callable[[int], None] = lambda done: None
) -> None:
    """Runs `rounds` rounds; `after` is told how many are done."""
    for turn in range(rounds):
        for index in order(len(contenders), turn):
            contenders[index].round()
        after(turn + 1)
