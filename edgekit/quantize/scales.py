# SPDX-License-Identifier: Apache-2.0
"""Scales, zero points and what is computed from them; docs/ARITHMETIC.md is the specification.

Everything that ends up in a file is rounded to binary32 here and nowhere else.
"""

from __future__ import annotations

import numpy as np

from edgekit.format.schema import SCALE_MAX, SCALE_MIN
from edgekit.program import Quant

Q_MIN, Q_MAX = -128, 127
W_MAX = 127
"""Weights are symmetric: [-W_MAX, W_MAX]."""
ACCUMULATOR_MAX = 2**31 - 1
BIAS_MAX = 2**30
REAL_MAX = 2.0**30
"""An accumulator times its multiplier stays below this, so that it rounds and converts exactly."""

PROBABILITY = Quant(np.float32(1 / 256), -128)
"""Softmax and sigmoid: [0, 255/256]."""
SIGNED_UNIT = Quant(np.float32(1 / 128), 0)
"""Tanh and the like: [-1, 127/128]."""


def quant_from_range(lo: float, hi: float) -> Quant:
    """The scale and zero point that represent [lo, hi] and, exactly, zero.

    A constant tensor (lo == hi) takes scale max(|v|, 1) / 127.
    """
    if lo == hi:
        return Quant(clamp_scale(max(abs(lo), 1.0) / W_MAX), 0)
    lo, hi = min(lo, 0.0), max(hi, 0.0)
    scale = clamp_scale((hi - lo) / (Q_MAX - Q_MIN))
    zero = int(np.clip(np.rint(Q_MIN - lo / float(scale)), Q_MIN, Q_MAX))
    return Quant(scale, zero)


def clamp_scale(scale: float) -> np.float32:
    """The nearest permitted scale."""
    return np.float32(min(max(scale, SCALE_MIN), SCALE_MAX))


def raised(quant: Quant, factor: float) -> Quant:
    """`quant` with a scale at least `factor` times as large, the same zero point."""
    scale = np.nextafter(np.float32(float(quant.scale) * factor), np.float32(np.inf))
    return Quant(clamp_scale(float(scale)), quant.zero_point)


def quantize(real: np.ndarray, quant: Quant) -> np.ndarray:
    """`sat(rne(f32(x / s)) + z)` of float32 values, int8: what Quantize computes at run time."""
    with np.errstate(over="ignore"):
        steps = np.rint(np.asarray(real, np.float32) / np.float32(quant.scale))
    return saturate(steps, quant.zero_point)


def saturate(steps: np.ndarray, zero: int) -> np.ndarray:
    """Whole steps from zero -> int8; NaN becomes the lowest value."""
    steps = np.where(np.isnan(steps), -np.inf, steps)
    return (np.clip(steps, Q_MIN - zero, Q_MAX - zero) + zero).astype(np.int8)


def dequantize(q: np.ndarray, quant: Quant) -> np.ndarray:
    """The real values, float64."""
    return float(quant.scale) * (q.astype(np.float64) - quant.zero_point)


def clamp_bounds(clip: tuple[float, float], quant: Quant) -> tuple[int, int]:
    """`lo_q = sat8(rne(f32(lo / sy)) + zy)` and `hi_q` likewise, for a fused activation."""
    lo, hi = quantize(np.array(clip, np.float32), quant)
    return int(lo), int(hi)


def table(function_values: np.ndarray, quant: Quant) -> np.ndarray:
    """int8[256] from float64[256], rounded once."""
    return saturate(np.rint(function_values / float(quant.scale)), quant.zero_point)


def domain(quant: Quant) -> np.ndarray:
    """The real values of -128...127, float64[256]."""
    return dequantize(np.arange(Q_MIN, Q_MAX + 1), quant)


def distance(quant: Quant) -> int:
    """max |q - zero_point| over all q."""
    return max(Q_MAX - quant.zero_point, quant.zero_point - Q_MIN)
