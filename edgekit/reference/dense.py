# SPDX-License-Identifier: Apache-2.0
"""Fully connected layers, and the exact matrix product behind them."""

from __future__ import annotations

import numpy as np

from edgekit.reference.rounding import centered, requantize, wrap


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The exact integer matrix product of a[...,M,K] and b[...,K,N], int64.

    Computed by the float64 BLAS: with factors within [-255, 255] every partial sum is an integer below
    2^16 * K < 2^53, so each operation is exact, in any order and fused or not.
    """
    return (a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64)


def dense(
    x: np.ndarray,
    w: np.ndarray,
    bias: np.ndarray,
    multiplier: np.ndarray,
    *,
    x_zero: int,
    y_zero: int,
    lo: int,
    hi: int,
) -> np.ndarray:
    """`y[...,o] = requantize(bias[o] + sum((x[...] - x_zero) * w[o]), multiplier[o])`.

    int8 x[...,K], int8 w[O,K], int32 bias[O], float32 multiplier[O] -> int8 y[...,O].
    """
    acc = product(centered(x, x_zero), w.T) + bias.astype(np.int64)
    return requantize(wrap(acc), multiplier, y_zero, lo, hi)
