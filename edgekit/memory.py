# SPDX-License-Identifier: Apache-2.0
"""Memory that is free, but not given back."""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Returns freed memory to the system. glibc keeps it for later, cut into pieces that large arrays do not fit into.

    Without effect with other C libraries.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # TypeError: Windows takes no None
        return
    trim(0)
