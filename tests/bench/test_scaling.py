# SPDX-License-Identifier: Apache-2.0
"""The simulation of threads on loops whose time is known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.scaling import Pool, Prediction, loop_time, predict

FREE = Pool(0, 0)


def test_parts_of_equal_length() -> None:
    assert loop_time([10.0] * 8, 1, Pool(5, 3)) == 80
    assert [loop_time([10.0] * 8, threads, FREE) for threads in (2, 4, 8, 64)] == [40, 20, 10, 10]
    assert loop_time([10.0] * 9, 4, FREE) == 30


def test_the_first_thread_that_is_free_takes_the_next_part() -> None:
    assert loop_time([7.0, 2.0, 2.0, 2.0], 2, FREE) == 7
    assert loop_time([2.0, 2.0, 2.0, 7.0], 2, FREE) == 9


def test_a_thread_that_comes_late_finds_fewer_parts() -> None:
    assert loop_time([10.0] * 4, 2, Pool(100, 0)) == 40
    assert loop_time([10.0] * 4, 2, Pool(15, 0)) == 30
    assert loop_time([10.0, 10.0], 2, Pool(4, 0)) == 14


def test_threads_take_their_turns_at_the_counter() -> None:
    assert loop_time([10.0] * 4, 4, Pool(0, 3)) == 4 * 3 + 10
    assert loop_time([0.0] * 100, 50, Pool(0, 2)) == 200


def test_no_number_of_threads_beats_the_parts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(30):
        parts = rng.uniform(0, 50, int(rng.integers(1, 40))).tolist()
        pool = Pool(rng.uniform(0, 20), rng.uniform(0, 2))
        for threads in (2, 3, 16):
            time = loop_time(parts, threads, pool)
            assert time >= max(sum(parts) / threads, max(parts))
            assert time <= sum(parts) + len(parts) * pool.take + 1e-9


def test_a_run_is_its_operators() -> None:
    record = {"threads": 2, "ops": [31, 100, 11], "loops": [{"op": 1, "parts": [21, 21, 21, 21]}]}
    # operator 1 took 100: five pairs of clock readings and four parts of 20 after them, and 15 beside
    assert predict(record, FREE, clock=1) == Prediction(time=30 + (15 + 40) + 10, serial=30 + 15 + 10)
    assert predict({**record, "threads": 1}, FREE, clock=1).time == pytest.approx(30 + 95 + 10)
