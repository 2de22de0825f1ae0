# SPDX-License-Identifier: Apache-2.0
"""Who runs when, and what is said of the times."""

from __future__ import annotations

import pytest

from edgekit.bench.rounds import Times, interleave, order


class Recorder:
    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def round(self) -> None:
        self.log.append(self.name)


def test_contenders_take_turns() -> None:
    log: list[str] = []
    told: list[int] = []
    interleave([Recorder(name, log) for name in "ABC"], 4, told.append)
    assert "".join(log) == "ABC" "BCA" "CAB" "ABC"
    assert told == [1, 2, 3, 4]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_each_is_first_equally_often(count: int) -> None:
    orders = [order(count, turn) for turn in range(3 * count)]
    assert all(sorted(each) == list(range(count)) for each in orders)
    assert [sum(each[0] == i for each in orders) for i in range(count)] == [3] * count


def test_nobody_takes_part() -> None:
    interleave([], 3)


def times(*rounds: list[float]) -> Times:
    result = Times()
    for each in rounds:
        result.add(each)
    return result


def test_statistics_are_over_all_readings() -> None:
    some = times([4000.0, 1000.0], [2000.0], [9000.0, 3000.0])
    assert (some.count, some.median_us, some.min_us) == (5, 3.0, 1.0)
    assert some.p99_us == pytest.approx(8.8)


def test_ratios_are_of_medians() -> None:
    assert times([100.0, 300.0], [200.0]).ratio(times([100.0], [100.0])) == 2.0


def test_paired_ratios_see_what_a_round_has_in_common() -> None:
    """The machine is three times as slow in the second round and ten times in the last; the ratio is two throughout."""
    slower = times([200.0], [600.0, 620.0, 580.0], [2000.0])
    faster = times([100.0], [300.0], [1000.0])
    assert slower.paired_ratios(faster) == (2.0, 2.0, 2.0)
    assert times([300.0], [100.0], [200.0]).paired_ratios(times([100.0], [100.0], [100.0])) == (1.5, 2.0, 2.5)


def test_pairs_need_the_same_rounds() -> None:
    with pytest.raises(ValueError, match="zip"):
        times([1.0], [1.0]).paired_ratios(times([1.0]))
