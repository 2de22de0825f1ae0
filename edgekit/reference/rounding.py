# SPDX-License-Identifier: Apache-2.0
"""The two steps that end every computing operator: round half to even, then clamp.

Every float here is binary32 and every operation on it rounds once, to nearest even; NumPy keeps
float32 arrays float32 against float32 scalars, which is what makes the expressions below exact
transcriptions of docs/ARITHMETIC.md.
"""

from __future__ import annotations

import numpy as np


def saturate(real: np.ndarray, zero: int, lo: int, hi: int) -> np.ndarray:
    """`sat(rne(real) + zero)`: float32 -> int8.

    Rounds before the zero point is added. The clamp stands between the two, at `[lo - zero, hi - zero]`:
    these are integers below 2^9, so the result is the same and no value is out of int8's range when it
    is converted. NaN becomes `lo`, infinities the nearer bound.
    """
    rounded = np.rint(np.where(np.isnan(real), np.float32(-np.inf), real))
    return (np.clip(rounded, np.float32(lo - zero), np.float32(hi - zero)) + np.float32(zero)).astype(np.int8)


def requantize(
    acc: np.ndarray, multiplier: np.ndarray | np.float32, zero: int, lo: int, hi: int
) -> np.ndarray:
    """`sat(rne(f32(f32(acc) * multiplier)) + zero)`: int32 accumulators -> int8.

    `multiplier` is float32, one for all or one per element of the last dimension.
    """
    assert acc.dtype == np.int32, acc.dtype
    return saturate(acc.astype(np.float32) * multiplier, zero, lo, hi)


def wrap(acc: np.ndarray) -> np.ndarray:
    """int64 -> int32 modulo 2^32, as C's unsigned accumulation does.

    It is the identity for every model that the converter wrote: it proves that no accumulator overflows.
    """
    return acc.astype(np.int64).astype(np.int32)


def centered(q: np.ndarray, zero: int) -> np.ndarray:
    """`q - zero` as int32, within [-255, 255]."""
    return q.astype(np.int32) - np.int32(zero)
