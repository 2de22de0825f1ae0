# SPDX-License-Identifier: Apache-2.0
"""Sum and difference."""

from __future__ import annotations

import numpy as np

from edgekit.reference.rounding import centered, saturate


def add(
    a: np.ndarray,
    b: np.ndarray,
    a_multiplier: np.float32,
    b_multiplier: np.float32,
    *,
    a_zero: int,
    b_zero: int,
    y_zero: int,
    lo: int,
    hi: int,
) -> np.ndarray:
    """`sat(rne(f32(f32(ra * (a - za)) + f32(rb * (b - zb)))) + zy)`, int8 in and out, broadcast.

    `a_multiplier = f32(sa / sy)`, `b_multiplier = f32(sb / sy)`, negated to subtract. Three roundings:
    each product, then the sum; fusing one of the products into the sum gives other bits.
    """
    left = centered(a, a_zero).astype(np.float32) * a_multiplier
    right = centered(b, b_zero).astype(np.float32) * b_multiplier
    return saturate(left + right, y_zero, lo, hi)
