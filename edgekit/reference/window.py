# SPDX-License-Identifier: Apache-2.0
"""The sliding windows that convolution and pooling share."""

from __future__ import annotations

import numpy as np

from edgekit.program import Pads, Pair


def span(size: int, stride: int, dilation: int, kernel: int) -> int:
    """Input positions that `size` windows cover, from the first tap of the first to the last of the last."""
    return (size - 1) * stride + (kernel - 1) * dilation + 1


def windows(
    x: np.ndarray, out: Pair, kernel: Pair, strides: Pair, dilations: Pair, pads: Pads, fill: int
) -> np.ndarray:
    """All windows of x[N,H,W,C] as a read-only view [N,OH,OW,KH,KW,C]; padding reads `fill`.

    `out` is (OH, OW). Where it asks for windows that reach beyond the padding (pooling with ceil_mode),
    they read `fill` there too.
    """
    (_, h, w, _), (top, left, bottom, right) = x.shape, pads
    need_h = span(out[0], strides[0], dilations[0], kernel[0])
    need_w = span(out[1], strides[1], dilations[1], kernel[1])
    rows = (top, max(bottom, need_h - top - h))
    cols = (left, max(right, need_w - left - w))
    padded = np.pad(x, ((0, 0), rows, cols, (0, 0)), constant_values=fill)
    n, c = x.shape[0], x.shape[3]
    sn, sh, sw, sc = padded.strides
    return np.lib.stride_tricks.as_strided(
        padded,
        (n, *out, *kernel, c),
        (sn, sh * strides[0], sw * strides[1], sh * dilations[0], sw * dilations[1], sc),
        writeable=False,
    )
