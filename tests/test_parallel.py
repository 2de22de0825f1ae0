# SPDX-License-Identifier: Apache-2.0
"""Work on several processors: order, bounds and faults; BLAS threads."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from edgekit import blas
from edgekit.parallel import ahead


@pytest.mark.parametrize("at_once", [0, 1, 2, 7])
def test_results_come_in_order(at_once: int) -> None:
    assert list(ahead(lambda n: n * n, range(20), at_once)) == [(n, n * n) for n in range(20)]
    assert list(ahead(lambda n: n, [], at_once)) == []


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_no_more_is_taken_than_allowed(at_once: int) -> None:
    taken: list[int] = []

    def take(n: int) -> int:
        taken.append(n)
        return n

    for seen, _ in ahead(lambda n: n, map(take, range(20)), at_once):
        assert len(taken) <= seen + at_once


def test_as_many_run_at_once() -> None:
    """Each waits for the other, so that one thread alone would never come to an end."""
    meeting = threading.Barrier(2, timeout=60)
    assert len([n for n, _ in ahead(lambda n: meeting.wait(), range(6), 2)]) == 6


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_fault_is_raised_in_its_turn(at_once: int) -> None:
    seen = []
    with pytest.raises(ZeroDivisionError):
        for item, result in ahead(lambda n: 12 // (4 - n), range(9), at_once):
            seen.append((item, result))
    assert seen == [(0, 3), (1, 4), (2, 6), (3, 12)]


def test_blas_has_one_thread_inside_and_its_own_number_after() -> None:
    found = blas._threads()
    if found is None:
        pytest.skip("NumPy here uses a BLAS whose threads edgekit does not know")
    get, set_ = found
    before = get()
    try:
        set_(2)
        several = get()  # 1 in a build without threads
        with blas.one_thread():
            assert get() == 1
            np.ones((300, 300)) @ np.ones((300, 300))
        assert get() == several
        with pytest.raises(ValueError), blas.one_thread():
            raise ValueError
        assert get() == several
    finally:
        set_(before)
