# SPDX-License-Identifier: Apache-2.0
"""Work on several processors: order, bounds and faults; BLAS threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

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


@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize("good", [0, 1, 2, 5])
def test_a_fault_of_the_items_is_raised_in_its_turn(at_once: int, good: int) -> None:
    def items() -> Iterator[int]:
        yield from range(good)
        raise OSError("the disk is gone")

    seen = []
    with pytest.raises(OSError, match="the disk is gone"):
        for pair in ahead(lambda n: n * n, items(), at_once):
            seen.append(pair)
    assert seen == [(n, n * n) for n in range(good)]


@pytest.mark.parametrize("at_once", [1, 3])
def test_the_first_of_two_faults_is_raised(at_once: int) -> None:
    def items() -> Iterator[int]:
        yield from (2, 1, 0)
        raise OSError("the disk is gone")

    seen = []
    with pytest.raises(ZeroDivisionError):
        for pair in ahead(lambda n: 2 // n, items(), at_once):
            seen.append(pair)
    assert seen == [(2, 1), (1, 2)]


# ---- BLAS --------------------------------------------------------------------------------------


class FakeLibrary:
    """Has two functions, as `ctypes.CDLL` shows them."""

    def __init__(self, get: str, set_: str, threads: int = 5) -> None:
        self.threads = threads
        self._functions = {get: lambda: self.threads, set_: self._set}

    def _set(self, threads: int) -> None:
        self.threads = threads

    def __getitem__(self, name: str) -> Callable[..., Any]:
        if name not in self._functions:
            raise AttributeError(name)
        return self._functions[name]


@pytest.mark.parametrize(
    ("get", "set_"),
    [
        ("scipy_openblas_get_num_threads64_", "scipy_openblas_set_num_threads64_"),
        ("openblas_get_num_threads64_", "openblas_set_num_threads64_"),
        ("openblas_get_num_threads", "openblas_set_num_threads"),
        ("MKL_Get_Max_Threads", "MKL_Set_Num_Threads"),
    ],
)
def test_the_functions_of_each_library_are_found(monkeypatch: pytest.MonkeyPatch, get: str, set_: str) -> None:
    library = FakeLibrary(get, set_)
    monkeypatch.setattr(blas.ctypes, "CDLL", lambda path: library)
    with blas.one_thread():
        assert library.threads == 1
    assert library.threads == 5


def test_an_unknown_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    library = FakeLibrary("bli_thread_get_num_threads", "bli_thread_set_num_threads")
    monkeypatch.setattr(blas.ctypes, "CDLL", lambda path: library)
    with blas.one_thread():
        assert library.threads == 5
    assert library.threads == 5


def test_contexts_of_two_threads_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one to enter is the first one to leave; the other still needs its one thread."""
    library = FakeLibrary("openblas_get_num_threads", "openblas_set_num_threads")
    monkeypatch.setattr(blas, "_threads", lambda: blas._functions(library))
    inside, leave = threading.Event(), threading.Event()
    seen: list[int] = []

    def other() -> None:
        with blas.one_thread():
            inside.set()
            assert leave.wait(timeout=60)
            seen.append(library.threads)

    thread = threading.Thread(target=other)
    with blas.one_thread():
        thread.start()
        assert inside.wait(timeout=60)
    assert library.threads == 1
    leave.set()
    thread.join()
    assert seen == [1]
    assert library.threads == 5


def test_contexts_nest(monkeypatch: pytest.MonkeyPatch) -> None:
    library = FakeLibrary("openblas_get_num_threads", "openblas_set_num_threads")
    monkeypatch.setattr(blas, "_threads", lambda: blas._functions(library))
    with blas.one_thread():
        with blas.one_thread():
            assert library.threads == 1
        assert library.threads == 1
    assert library.threads == 5


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
