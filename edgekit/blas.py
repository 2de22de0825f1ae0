# SPDX-License-Identifier: Apache-2.0
"""The threads of the library behind NumPy's matrix products.

For matrices of a layer's size they gain little, wait for each other by spinning, and where they cut
a factorization decides its last bits, which would then depend on the machine.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

_NAMES = (
    ("scipy_openblas_get_num_threads64_", "scipy_openblas_set_num_threads64_"),  # NumPy's wheels
    ("openblas_get_num_threads64_", "openblas_set_num_threads64_"),  # those before 1.26
    ("openblas_get_num_threads", "openblas_set_num_threads"),  # distributions
    ("MKL_Get_Max_Threads", "MKL_Set_Num_Threads"),
)

Functions = tuple[Callable[[], int], Callable[[int], object]]


class _Library(Protocol):
    """A shared library, as `ctypes.CDLL` gives access to its functions."""

    def __getitem__(self, name: str) -> Any:
        """Raises AttributeError where it has no such function."""


class _Limit:
    """One limit for all contexts that are open: the first one sets it, the last one takes it back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = 0
        self._restore: Callable[[], object] | None = None

    def enter(self) -> None:
        with self._lock:
            if self._open == 0 and (found := _threads()) is not None:
                get, set_ = found
                self._restore = partial(set_, get())
                set_(1)
            self._open += 1

    def leave(self) -> None:
        with self._lock:
            self._open -= 1
            if self._open == 0 and self._restore is not None:
                self._restore()
                self._restore = None


_limit = _Limit()


@contextmanager
def one_thread() -> Iterator[None]:
    """Matrix products use one thread, in the whole process, for as long as any such context is open.

    Contexts may nest and overlap, in several threads. Without effect where NumPy uses a library other than
    OpenBLAS and MKL.
    """
    _limit.enter()
    try:
        yield
    finally:
        _limit.leave()


def _threads() -> Functions | None:
    """The functions that get and set the number of threads."""
    try:
        # Names are looked up in what NumPy's extension is linked to, wherever that lies.
        from numpy.linalg import _umath_linalg

        return _functions(ctypes.CDLL(_umath_linalg.__file__))
    except (ImportError, OSError):
        return None


def _functions(library: _Library) -> Functions | None:
    for get, set_ in _NAMES:
        try:
            return library[get], library[set_]
        except AttributeError:
            continue
    return None
