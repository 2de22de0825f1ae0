# SPDX-License-Identifier: Apache-2.0
"""The matrix product of two activations."""

from __future__ import annotations

import numpy as np

from edgekit.reference.dense import product
from edgekit.reference.rounding import centered, requantize, wrap


def matmul(
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
    """`y = requantize(sum((a - a_zero) * (b - b_zero)), multiplier)`, `multiplier = f32(f32(sa * sb) / sy)`.

    int8 a[...,M,K], int8 b[...,K,N] -> int8 y[...,M,N]; batch dimensions are equal, or 1 in b.
    """
    acc = product(centered(a, a_zero), centered(b, b_zero))
    return requantize(wrap(acc), multiplier, y_zero, lo, hi)
