# SPDX-License-Identifier: Apache-2.0
"""Product, element by element."""

from __future__ import annotations

import numpy as np

from edgekit.reference.rounding import centered, requantize


def mul(
    a: np.ndarray,
    b: np.ndarray,
    multiplier: np.float32,
    *,
    a_zero: int,
    b_zero: int,
    y_zero: int,
    lo: int,
    hi: int,
) -> np.ndarray:
    """`requantize((a - a_zero) * (b - b_zero), f32(f32(sa * sb) / sy))`, int8 in and out, broadcast.

    The integer product is at most 255^2, so its conversion to binary32 is exact.
    """
    return requantize(centered(a, a_zero) * centered(b, b_zero), multiplier, y_zero, lo, hi)
