# SPDX-License-Identifier: Apache-2.0
"""Between the caller's arrays and int8 tensors."""

from __future__ import annotations

import numpy as np

from edgekit.reference.rounding import saturate


def quantize(x: np.ndarray, scale: np.float32, zero: int, perm: tuple[int, ...]) -> np.ndarray:
    """`sat(rne(f32(x / scale)) + zero)`, a division; NaN becomes -128, infinities saturate.

    float32 x in the caller's layout -> int8 whose dimension i is dimension `perm[i]` of x.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        real = x / np.float32(scale)
    return saturate(real, zero, -128, 127).transpose(perm)


def look_up_raw(raw: np.ndarray, table: np.ndarray, axis: int, perm: tuple[int, ...]) -> np.ndarray:
    """Raw 8-bit data becomes the quantized input: `y = table[c][byte]`.

    uint8 raw, or int8 raw whose table index is value + 128; int8 table[256] or [C,256] with C the size
    of output dimension `axis`; output dimension i is dimension `perm[i]` of raw.
    """
    index = raw.transpose(perm).astype(np.int32) + (128 if raw.dtype == np.int8 else 0)
    table = table.reshape(-1, 256)
    if len(table) == 1:
        return table[0][index]
    channel = np.arange(len(table)).reshape([-1 if d == axis else 1 for d in range(index.ndim)])
    return table[channel, index]


def dequantize(q: np.ndarray, scale: np.float32, zero: int, perm: tuple[int, ...]) -> np.ndarray:
    """`f32(f32(q - zero) * scale)`: int8 -> float32 in the caller's layout.

    Dimension i of the result is dimension `perm[i]` of q.
    """
    return ((q.astype(np.int32) - np.int32(zero)).astype(np.float32) * np.float32(scale)).transpose(perm)
