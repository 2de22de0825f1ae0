# SPDX-License-Identifier: Apache-2.0
"""Pooling over NHWC images."""

from __future__ import annotations

import numpy as np

from edgekit.program import Pads, Pair
from edgekit.reference.rounding import centered, requantize
from edgekit.reference.window import windows


def max_pool(
    x: np.ndarray, *, out: Pair, kernel: Pair, strides: Pair, dilations: Pair, pads: Pads
) -> np.ndarray:
    """The largest value of each window; padding is ignored. int8 x[N,H,W,C] -> int8 y[N,OH,OW,C].

    A padded position reads -128, which no value is below.
    """
    return windows(x, out, kernel, strides, dilations, pads, fill=-128).max(axis=(3, 4))


def divisors(
    size: Pair,
    *,
    out: Pair,
    kernel: Pair,
    strides: Pair,
    dilations: Pair,
    pads: Pads,
    count_include_pad: bool,
) -> np.ndarray:
    """int32[OH,OW]: how many positions of each window lie inside the input (and padding, if asked).

    Positions beyond the padding, which ceil_mode reaches, never count.
    """
    inside = np.ones((1, *size, 1), np.int32)
    if count_include_pad:
        top, left, bottom, right = pads
        inside = np.pad(inside, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=1)
        pads = (0, 0, 0, 0)
    taps = windows(inside, out, kernel, strides, dilations, pads, fill=0)
    return taps.sum(axis=(3, 4), dtype=np.int32)[0, :, :, 0]


def average_multiplier(n: np.ndarray, x_scale: np.float32, y_scale: np.float32) -> np.ndarray:
    """`m = f32(sx / f32(sy * n))`, float32, for each divisor in `n`; infinity where n is 0."""
    with np.errstate(divide="ignore"):
        return np.float32(x_scale) / (np.float32(y_scale) * n.astype(np.float32))


def average_pool(
    x: np.ndarray,
    multiplier: np.ndarray,
    *,
    x_zero: int,
    y_zero: int,
    lo: int,
    hi: int,
    out: Pair,
    kernel: Pair,
    strides: Pair,
    dilations: Pair,
    pads: Pads,
) -> np.ndarray:
    """`requantize(sum(x - x_zero), multiplier[i, j])`, padding is `x_zero`.

    A window without any position inside the input is `0 * infinity`, a NaN, and so becomes `lo`.
    int8 x[N,H,W,C], float32 multiplier[OH,OW] as `average_multiplier` gives it -> int8 y[N,OH,OW,C].
    """
    taps = windows(x, out, kernel, strides, dilations, pads, fill=x_zero)
    acc = centered(taps, x_zero).sum(axis=(3, 4), dtype=np.int32)
    with np.errstate(invalid="ignore"):
        return requantize(acc, multiplier[:, :, np.newaxis], y_zero, lo, hi)
