# SPDX-License-Identifier: Apache-2.0
"""The threads of the library behind NumPy's matrix products.

For matrices of a layer's size they gain little, wait for each other by spinning, and where they cut
a factorization decides its last bits, which would then depend on the machine.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_NAMES = (
    ("scipy_openblas_{}_num_threads64_", "get", "set"),  # NumPy's wheels
    ("openblas_{}_num_threads64_", "get", "set"),  # those before 1.26
    ("openblas_{}_num_threads", "get", "set"),  # distributions
    ("MKL_{}_Num_Threads", "Get_Max", "Set"),
)


@contextmanager
def one_thread() -> Iterator[None]:
    """Matrix products use one thread, in the whole process, for as long as the context lasts.

    Without effect where NumPy uses a library other than OpenBLAS and MKL.
    """
    found = _threads()
    if found is None:
        yield
        return
    get, set_ = found
    before = get()
    set_(1)
    try:
        yield
    finally:
        set_(before)


def _threads() -> tuple[Callable[[], int], Callable[[int], object]] | None:
    """The functions that get and set the number of threads."""
    try:
        # Names are looked up in what NumPy's extension is linked to, wherever that lies.
        from numpy.linalg import _umath_linalg

        library = ctypes.CDLL(_umath_linalg.__file__)
    except (ImportError, OSError):
        return None
    for pattern, get, set_ in _NAMES:
        try:
            return library[pattern.format(get)], library[pattern.format(set_)]
        except AttributeError:
            continue
    return None
