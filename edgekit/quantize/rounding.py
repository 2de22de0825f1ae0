# SPDX-License-Identifier: Apache-2.0
"""Rounding weights so that a layer's outputs change least, not its weights.

The column-by-column method of Frantar et al., "GPTQ: Accurate Post-Training Quantization for
Generative Pre-trained Transformers" (2023), after Hassibi and Stork's Optimal Brain Surgeon: what
rounding one weight adds to the output error, the weights that are not rounded yet take back.
"""

from __future__ import annotations

import numpy as np

from edgekit.quantize.scales import W_MAX

_DAMPING = 0.01
"""Share of the mean variance added to every input's: keeps the step small where data says little."""
_BLOCK = 64


def nearest(w: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """rne(w / scale) within [-127, 127], float64; scale broadcasts to w."""
    return np.clip(np.rint(w / scale), -W_MAX, W_MAX)


class OutputRounding:
    """Rounds the weights of one layer with regard to the covariance of its inputs.

    Args:
        inputs: float[G, R, K], R observed inputs of each group.
    """

    def __init__(self, inputs: np.ndarray) -> None:
        groups, rows, k = inputs.shape
        centered = (inputs - inputs.mean(axis=1, keepdims=True)).astype(np.float64)
        covariance = np.einsum("grk,grl->gkl", centered, centered, optimize=True) / max(rows, 1)
        variance = np.einsum("gkk->gk", covariance)
        mean = variance.mean(axis=1)
        mean[mean <= 0] = 1.0  # inputs that never vary: every rounding is as good
        covariance[:, np.arange(k), np.arange(k)] += _DAMPING * mean[:, None]
        # Inputs with much variance first: most others are left to compensate them.
        self._order = np.argsort(-variance, axis=1, kind="stable")
        sorted_ = np.take_along_axis(covariance, self._order[:, :, None], axis=1)
        sorted_ = np.take_along_axis(sorted_, self._order[:, None, :], axis=2)
        self._upper = np.linalg.cholesky(np.linalg.inv(sorted_)).transpose(0, 2, 1)
        self._groups = groups
        self._last: tuple[np.ndarray, np.ndarray] | None = None

    def __call__(self, w: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """float[O, K] weights in `scale` [O, 1] -> whole numbers of the same shape, float64.

        A weight of zero stays zero: pruned models keep their sparsity.
        """
        if self._last is not None and np.array_equal(self._last[0], scale):
            return self._last[1]  # the same layer again, with another bias
        grouped = w.reshape(self._groups, -1, w.shape[1])
        step = np.broadcast_to(scale, (len(w), 1)).reshape(self._groups, -1)
        order = self._order[:, None, :]
        rest = np.take_along_axis(grouped, np.broadcast_to(order, grouped.shape), axis=2)
        rounded = self._round(rest, step, rest == 0)
        result = np.empty_like(rounded)
        np.put_along_axis(result, np.broadcast_to(order, result.shape), rounded, axis=2)
        self._last = scale, result.reshape(w.shape)
        return self._last[1]

    def _round(self, rest: np.ndarray, step: np.ndarray, zero: np.ndarray) -> np.ndarray:
        """Column after column; a block's corrections reach the columns behind it in one product."""
        rounded = np.empty_like(rest)
        k = rest.shape[2]
        for first in range(0, k, _BLOCK):
            last = min(first + _BLOCK, k)
            errors = np.empty((*rest.shape[:2], last - first))
            for i in range(first, last):
                rounded[:, :, i] = np.where(zero[:, :, i], 0.0, nearest(rest[:, :, i], step))
                error = (rest[:, :, i] - rounded[:, :, i] * step) / self._upper[:, i, i][:, None]
                rest[:, :, i:last] -= error[:, :, None] * self._upper[:, None, i, i:last]
                errors[:, :, i - first] = error
            rest[:, :, last:] -= errors @ self._upper[:, first:last, last:]
        return rounded
