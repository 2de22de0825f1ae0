# SPDX-License-Identifier: Apache-2.0
"""Weights and biases of one layer: scales that provably never overflow an accumulator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekit.errors import ModelError
from edgekit.format.schema import SCALE_MAX, SCALE_MIN
from edgekit.program import Quant
from edgekit.quantize.rounding import Rounding, nearest
from edgekit.quantize.scales import ACCUMULATOR_MAX, BIAS_MAX, W_MAX, distance

_ROUNDS = 64
"""Bound on the search for scales; each round raises at least one of them."""


@dataclass
class QuantizedWeights:
    """Attributes:
    weights: int8[O, K], K all other dimensions flattened.
    bias: int32[O], scale x_scale * scale.
    scale: float32[O].
    reach: int64[O], the largest |accumulator| over all possible inputs.
    """

    weights: np.ndarray
    bias: np.ndarray
    scale: np.ndarray
    reach: np.ndarray


def quantize_weights(
    name: str, w: np.ndarray, b: np.ndarray, x: Quant, y: Quant, rounding: Rounding = nearest
) -> QuantizedWeights:
    """Quantizes a layer's weights, one scale per output channel.

    A scale is the largest of: max|w| / 127; the smallest at which |bias| <= 2^30; the smallest at which
    sum|w| * max|x - zx| + |bias| < 2^31; the smallest at which the multipliers are in their range. An
    all-zero channel starts from its layer's median.

    Args:
        name: the node, for messages.
        w: float[O, K].
        b: float[O].
        x, y: of the layer's input and output.
        rounding: weights and scale [O, 1] -> whole numbers.

    Raises:
        ModelError: no scale in the permitted range is large enough.
    """
    w, b = np.asarray(w, np.float64), np.asarray(b, np.float64)
    sx = float(x.scale)
    scale = _initial_scale(w, sx, float(y.scale))
    scale = np.maximum(scale, np.abs(b) / (sx * BIAS_MAX))
    scale = np.maximum(scale, _smallest_scale(sx, float(y.scale)))
    for _ in range(_ROUNDS):
        result = _at_scale(w, b, x, _round_up(scale), rounding)
        excess = np.maximum(result.reach / ACCUMULATOR_MAX, np.abs(result.bias.astype(np.float64)) / BIAS_MAX)
        if np.all(excess <= 1.0):
            break
        scale = np.where(excess > 1.0, result.scale * np.maximum(excess, 1 + 2.0**-20), scale)
    else:
        raise ModelError(
            f"node '{name}': weights or bias are too large for 32-bit accumulators; rescale the model"
        )
    if result.scale.max() > SCALE_MAX or float(x.scale) * result.scale.max() > SCALE_MAX:
        raise ModelError(
            f"node '{name}': weights up to {np.abs(w).max():.3g} are too large; rescale the model"
        )
    return QuantizedWeights(result.weights, result.bias.astype(np.int32), result.scale, result.reach)


def _initial_scale(w: np.ndarray, sx: float, sy: float) -> np.ndarray:
    """max|w| / 127 by channel, the median of the others for an all-zero channel."""
    peak = np.maximum(w.max(axis=1, initial=0.0), -w.min(axis=1, initial=0.0)) / W_MAX
    used = peak[peak > 0]
    # A layer of zeros only has a bias: 1/256 of an output step represents it.
    rest = float(np.median(used)) if used.size else sy / (256 * sx)
    return np.where(peak > 0, peak, rest)


def _smallest_scale(sx: float, sy: float) -> float:
    """At which sw, sx * sw and sx * sw / sy are all representable; a little more, for their rounding."""
    return SCALE_MIN * (1 + 2.0**-20) * max(1.0, 1.0 / sx, sy / sx)


def _round_up(scale: np.ndarray) -> np.ndarray:
    """To binary32, never down, so that |w| / scale <= 127."""
    rounded = scale.astype(np.float32)
    low = rounded.astype(np.float64) < scale
    return np.where(low, np.nextafter(rounded, np.float32(np.inf)), rounded)


def _at_scale(
    w: np.ndarray, b: np.ndarray, x: Quant, scale: np.ndarray, rounding: Rounding
) -> QuantizedWeights:
    wide = scale.astype(np.float64)
    q = rounding(w, wide[:, None])
    bias = np.rint(b / (float(x.scale) * wide))
    reach = np.abs(q).sum(axis=1) * distance(x) + np.abs(bias)
    return QuantizedWeights(q.astype(np.int8), bias, scale, reach)
