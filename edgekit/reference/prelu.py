# SPDX-License-Identifier: Apache-2.0
"""Leaky rectifier with one slope per channel."""

from __future__ import annotations

import numpy as np

from edgekit.reference.rounding import centered, saturate


def prelu(
    x: np.ndarray, multiplier: np.float32, negative: np.ndarray, *, x_zero: int, y_zero: int, lo: int, hi: int
) -> np.ndarray:
    """`sat(rne(f32(f32(x - x_zero) * (x >= x_zero ? multiplier : negative[c]))) + y_zero)`.

    int8 x[...,C]; `multiplier = f32(sx / sy)`; float32 negative[C] `= f32(f32(sx * slope) / sy)`.
    """
    d = centered(x, x_zero)
    return saturate(d.astype(np.float32) * np.where(d >= 0, multiplier, negative), y_zero, lo, hi)
