# SPDX-License-Identifier: Apache-2.0
"""Operators that move values and compute nothing."""

from __future__ import annotations

import numpy as np


def reshape(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The same elements in the same order."""
    return np.ascontiguousarray(x).reshape(shape)


def transpose(x: np.ndarray, perm: tuple[int, ...]) -> np.ndarray:
    """Output dimension i is input dimension `perm[i]`."""
    return np.ascontiguousarray(x.transpose(perm))


def strided_slice(
    x: np.ndarray, starts: tuple[int, ...], steps: tuple[int, ...], shape: tuple[int, ...]
) -> np.ndarray:
    """`y[i] = x[start + i * step]` in every dimension; `shape` is y's. Steps may be negative."""
    index = [start + step * np.arange(size) for start, step, size in zip(starts, steps, shape, strict=True)]
    return x[np.ix_(*index)] if shape else x.copy()


def pad(x: np.ndarray, before: tuple[int, ...], value: int, shape: tuple[int, ...]) -> np.ndarray:
    """x at offset `before` in an array of `shape` that is `value` elsewhere."""
    y = np.full(shape, value, np.int8)
    y[tuple(slice(b, b + n) for b, n in zip(before, x.shape, strict=True))] = x
    return y


def concat(xs: list[np.ndarray], axis: int) -> np.ndarray:
    """All inputs one behind the other along `axis`."""
    return np.concatenate(xs, axis=axis)


def resize_nearest(x: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """`y[n,i,j,c] = x[n, rows[i], cols[j], c]`."""
    return x[:, rows][:, :, cols]
