# SPDX-License-Identifier: Apache-2.0
"""Layer normalization by exact integer sums."""

from __future__ import annotations

import numpy as np

from edgekit.reference.rounding import saturate


def layer_norm(
    x: np.ndarray, epsilon: np.float32, gain: np.ndarray, offset: np.ndarray, *, y_zero: int, lo: int, hi: int
) -> np.ndarray:
    """Over the last dimension, of n elements: `d = n * x - sum(x)`, `v = n * sum(x * x) - sum(x)^2`,
    `k = f32(1 / f32(sqrt(f32(f32(v) + epsilon))))`,
    `y = sat(rne(f32(f32(f32(f32(d) * k) * gain) + offset)) + y_zero)`.

    int8 x[...,n], float32 gain[n] and offset[n], `epsilon` in units of (sx / n)^2 -> int8.
    n is at most 2^16: |d| < 2^24 is exact in binary32, v < 2^46 rounds once.
    """
    q, n = x.astype(np.int64), x.shape[-1]
    total = q.sum(axis=-1, keepdims=True)
    d = (n * q - total).astype(np.float32)
    v = (n * (q * q).sum(axis=-1, keepdims=True) - total * total).astype(np.float32)
    k = np.float32(1) / np.sqrt(v + np.float32(epsilon))
    return saturate(d * k * gain + offset, y_zero, lo, hi)
