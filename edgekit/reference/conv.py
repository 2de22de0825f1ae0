# SPDX-License-Identifier: Apache-2.0
"""Convolution over NHWC images."""

from __future__ import annotations

import numpy as np

from edgekit.program import Pads, Pair
from edgekit.reference.dense import product
from edgekit.reference.rounding import centered, requantize, wrap
from edgekit.reference.window import windows


def conv2d(
    x: np.ndarray,
    w: np.ndarray,
    bias: np.ndarray,
    multiplier: np.ndarray,
    *,
    x_zero: int,
    y_zero: int,
    lo: int,
    hi: int,
    out: Pair,
    strides: Pair,
    dilations: Pair,
    pads: Pads,
    groups: int,
) -> np.ndarray:
    """`y[n,i,j,o] = requantize(bias[o] + sum((x - x_zero) * w[o]), multiplier[o])`, padding is `x_zero`.

    int8 x[N,H,W,C], int8 w[O,KH,KW,C/groups], int32 bias[O], float32 multiplier[O] -> int8 y[N,OH,OW,O].
    Output channels [g*O/groups, (g+1)*O/groups) read input channels [g*C/groups, (g+1)*C/groups).
    """
    o, kh, kw, depth = w.shape
    taps = windows(x, out, (kh, kw), strides, dilations, pads, fill=x_zero)
    size = o // groups
    acc = [
        product(
            centered(taps[..., g * depth : (g + 1) * depth], x_zero).reshape(-1, kh * kw * depth),
            w[g * size : (g + 1) * size].reshape(size, -1).T,
        )
        for g in range(groups)
    ]
    total = wrap(np.concatenate(acc, axis=1) + bias.astype(np.int64))
    return requantize(total, multiplier, y_zero, lo, hi).reshape(x.shape[0], *out, o)


def depthwise_conv2d(
    x: np.ndarray,
    w: np.ndarray,
    bias: np.ndarray,
    multiplier: np.ndarray,
    *,
    x_zero: int,
    y_zero: int,
    lo: int,
    hi: int,
    out: Pair,
    strides: Pair,
    dilations: Pair,
    pads: Pads,
) -> np.ndarray:
    """`y[n,i,j,o] = requantize(bias[o] + sum((x[..., o // (O // C)] - x_zero) * w[..., o]), multiplier[o])`.

    int8 x[N,H,W,C], int8 w[KH,KW,O], int32 bias[O], float32 multiplier[O] -> int8 y[N,OH,OW,O].
    """
    kh, kw, o = w.shape
    wide = np.repeat(x, o // x.shape[3], axis=3)
    taps = windows(wide, out, (kh, kw), strides, dilations, pads, fill=x_zero)
    acc = np.einsum("nijklo,klo->nijo", centered(taps, x_zero), w.astype(np.int32), dtype=np.int64)
    return requantize(wrap(acc + bias.astype(np.int64)), multiplier, y_zero, lo, hi)
