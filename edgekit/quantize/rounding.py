# SPDX-License-Identifier: Apache-2.0
"""Rounding weights so that a layer's outputs change least, not its weights.

The column-by-column method of Frantar et al., "GPTQ: Accurate Post-Training Quantization for
Generative Pre-trained Transformers" (2023), after Hassibi and Stork's Optimal Brain Surgeon: what
rounding one weight adds to the output error, the weights that are not rounded yet take back.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgekit.quantize.scales import W_MAX

Rounding = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Weights float[O, K] and their scale [O, 1] -> whole numbers within [-127, 127]."""

_DAMPING = 0.01
"""Share of the mean variance added to every input's: keeps the step small where data says little."""
_BLOCK = 64
_EXACT_ROWS = 2**10
"""Products of so many int8 numbers sum up to 2^24 at most: exact in float32, in any order."""


def nearest(w: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """rne(w / scale) within [-127, 127], float64; scale broadcasts to w."""
    steps = w / scale
    np.rint(steps, out=steps)
    return np.clip(steps, -W_MAX, W_MAX, out=steps)


def remembered(rounding: Rounding) -> Rounding:
    """`rounding` of one layer that knows its last result: for the same scale, with another bias, it stays."""
    last: list[np.ndarray] = []

    def round_(w: np.ndarray, scale: np.ndarray) -> np.ndarray:
        if not last or not np.array_equal(last[0], scale):
            last[:] = scale, rounding(w, scale)
        return last[1]

    return round_


class OutputRounding:
    """Rounds the weights of one layer with regard to the covariance of its inputs.

    With errors e = w - q * step and the covariance H = R R^T, R upper triangular, a channel's output
    error is |R^T e|^2, and element i of R^T e depends on e[0] to e[i] only. So q[i] is chosen in turn to make it
    least: rne((w[i] + sum over j < i of e[j] * R[j, i] / R[i, i]) / step). In exact arithmetic this is
    the same as updating all weights that follow with a row of the inverse, which is not needed so.

    Args:
        inputs: int8[G, R, K], R observed inputs of each group, as quantized.
    """

    def __init__(self, inputs: np.ndarray) -> None:
        covariance = _covariance(inputs)
        groups, k, _ = covariance.shape
        variance = np.einsum("gkk->gk", covariance)
        mean = variance.mean(axis=1)
        mean[mean <= 0] = 1.0  # inputs that never vary: every rounding is as good
        covariance[:, np.arange(k), np.arange(k)] += _DAMPING * mean[:, None]
        # Inputs with much variance first: most others are left to compensate them.
        self._order = np.argsort(-variance, axis=1, kind="stable")
        backwards = self._order[:, ::-1]
        sorted_ = np.take_along_axis(covariance, backwards[:, :, None], axis=1)
        sorted_ = np.take_along_axis(sorted_, backwards[:, None, :], axis=2)
        upper = np.linalg.cholesky(sorted_)[:, ::-1, ::-1]
        self._feedback = (upper / np.einsum("gkk->gk", upper)[:, None, :]).transpose(0, 2, 1).copy()
        self._groups = groups

    def __call__(self, w: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """float[O, K] weights in `scale` [O, 1] -> whole numbers of the same shape, float64.

        A weight of zero stays zero: pruned models keep their sparsity.
        """
        grouped = w.reshape(self._groups, -1, w.shape[1]).transpose(0, 2, 1)
        step = np.broadcast_to(scale, (len(w), 1)).reshape(self._groups, 1, -1)
        order = self._order[:, :, None]
        rounded = self._round(np.take_along_axis(grouped, order, axis=1), step)
        result = np.empty_like(rounded)
        np.put_along_axis(result, np.broadcast_to(order, result.shape), rounded, axis=1)
        return result.transpose(0, 2, 1).reshape(w.shape)

    def _round(self, w: np.ndarray, step: np.ndarray) -> np.ndarray:
        """[G, K, O]: row after row; what all blocks in front make of a block is one product."""
        rounded, errors = np.empty_like(w), np.empty_like(w)
        k = w.shape[1]
        for first in range(0, k, _BLOCK):
            last = min(first + _BLOCK, k)
            wanted = w[:, first:last] + self._feedback[:, first:last, :first] @ errors[:, :first]
            for i in range(first, last):
                row = slice(i, i + 1)
                ideal = wanted[:, row.start - first : row.stop - first]
                ideal += self._feedback[:, row, first:i] @ errors[:, first:i]
                rounded[:, row] = np.where(w[:, row] == 0, 0.0, nearest(ideal, step))
                errors[:, row] = w[:, row] - rounded[:, row] * step
        return rounded


def _covariance(inputs: np.ndarray) -> np.ndarray:
    """int8[G, R, K] -> float64[G, K, K], in squared steps of the quantization."""
    groups, rows, k = inputs.shape
    products = np.zeros((groups, k, k))
    for first in range(0, rows, _EXACT_ROWS):
        part = inputs[:, first : first + _EXACT_ROWS].astype(np.float32)
        products += part.transpose(0, 2, 1) @ part
    sums = inputs.sum(axis=1, dtype=np.float64)
    # Whole numbers below 2^53 for up to 2^19 rows: zero where nothing varies, and not almost zero.
    products *= rows
    products -= sums[:, :, None] * sums[:, None, :]
    return products / max(rows, 1) ** 2
