# SPDX-License-Identifier: Apache-2.0
"""What calibration remembers of a tensor, and the ways to choose a range from it.

A `Histogram` is streamed: its range grows by doubling, its memory stays. The methods are those of
the literature: `percentile` and `entropy` after Migacz, "8-bit Inference with TensorRT" (GTC 2017),
`mse` after Sung et al., "Resiliency of Deep Neural Networks under Quantization" (2015) and
Nagel et al., "A White Paper on Neural Network Quantization" (2021), section 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from edgekit.runtime.kernels import _native

BINS = 4096
COUNTED, FEWEST_COUNTED = 2**16, 2**14
"""Values of one array that are counted, about: at most, and at least where it has so many. Of a larger one they are
evenly spaced."""
ENOUGH = 2**20
"""Values of a tensor over all arrays, about, between those bounds: more than 64 arrays exceed it at FEWEST_COUNTED each."""
LEVELS = 255
"""Steps of an 8-bit range."""

Range = tuple[float, float]


class Histogram:
    """Counts of a stream of float32 values, apart from exact zeros.

    Zero is always representable, so it has no quantization error whatever the range; behind a Relu it
    would outweigh everything else.

    Attributes:
        counts: int64[BINS] of the values other than zero that were looked at.
        start, width: bin i covers [start + i * width, start + (i + 1) * width).
        lo, hi: exact smallest and largest value, zeros included.
    """

    def __init__(self, arrays: int = 1) -> None:
        """`arrays`: how often `add` will be called, about."""
        self._counted = max(min(ENOUGH // max(arrays, 1), COUNTED), FEWEST_COUNTED)
        self.counts = np.zeros(BINS, np.int64)
        self.start = 0.0
        self.width = 0.0
        self.lo = np.inf
        self.hi = -np.inf

    def add(self, x: np.ndarray) -> bool:
        """Counts `x`, or part of it where it is large; whether it is finite, as otherwise nothing is counted."""
        x = np.ascontiguousarray(x, np.float32).reshape(-1)
        if x.size == 0:
            return True
        lo, hi, picked = _native.look(x, _distance(x.size, self._counted))
        if not (math.isfinite(lo) and math.isfinite(hi)):
            return False
        self.lo, self.hi = min(self.lo, lo), max(self.hi, hi)
        self._cover(lo, hi)
        _native.count(picked, self.start, 1 / self.width, self.counts)
        return True

    def centers(self) -> np.ndarray:
        """float64[BINS]"""
        return self.start + (np.arange(BINS) + 0.5) * self.width

    def _cover(self, lo: float, hi: float) -> None:
        if self.width == 0.0:
            margin = max((hi - lo) * 1e-3, abs(lo) * 1e-5, abs(hi) * 1e-5, 1e-30)
            self.start, self.width = lo - margin, (hi - lo + 2 * margin) / BINS
        while hi >= self.start + BINS * self.width:
            self._double(0)
        while lo < self.start:
            self.start -= BINS * self.width
            self._double(BINS // 2)

    def _double(self, at: int) -> None:
        """Halves the resolution; the old counts end up in the half that starts at bin `at`."""
        merged = self.counts.reshape(-1, 2).sum(axis=1)
        self.counts = np.zeros(BINS, np.int64)
        self.counts[at : at + BINS // 2] = merged
        self.width *= 2


def _distance(size: int, counted: int) -> int:
    """Between counted values; has no divisor in common with any dimension, so that all columns and channels count."""
    distance = max(size // counted, 1)
    while math.gcd(distance, size) > 1:
        distance += 1
    return distance


def minmax(h: Histogram) -> Range:
    """Everything that occurred."""
    return h.lo, h.hi


def percentile(h: Histogram, tail: float = 1e-5) -> Range:
    """All but a share of `tail` of the values at either end."""
    total = int(h.counts.sum())
    if total == 0 or h.hi <= h.lo:
        return h.lo, h.hi
    cumulated = np.cumsum(h.counts)
    first = int(np.searchsorted(cumulated, tail * total, side="right"))
    last = int(np.searchsorted(cumulated, (1 - tail) * total, side="left"))
    lo = h.start + first * h.width
    hi = h.start + (min(last, BINS - 1) + 1) * h.width
    return max(lo, h.lo), min(hi, h.hi)


def mse(h: Histogram) -> Range:
    """The range with the least expected squared error of quantization.

    Inside the range the error is that of uniform rounding, step^2 / 12; outside it is the distance
    to the nearest end. Each end is searched in turn with the other one fixed.
    """
    if h.counts.sum() <= 0 or h.hi <= h.lo:
        return h.lo, h.hi
    cost = _squared_error(h)
    lo, hi = min(h.lo, 0.0), max(h.hi, 0.0)
    shrink = np.linspace(1.0, 0.02, 197)
    both = cost(lo * shrink, hi * shrink)
    best = shrink[int(np.argmin(both))]
    ends = [lo * best, hi * best]
    for _ in range(3):
        for side, limit in ((0, lo), (1, hi)):
            candidates = limit * shrink
            pair = [np.full_like(candidates, e) for e in ends]
            pair[side] = candidates
            ends[side] = float(candidates[int(np.argmin(cost(*pair)))])
    return max(ends[0], h.lo), min(ends[1], h.hi)


def _squared_error(h: Histogram) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A function of arrays lo, hi that gives the sum of squared errors of each range."""
    x, n = h.centers(), h.counts.astype(np.float64)
    edges = h.start + np.arange(BINS + 1) * h.width

    def cumulate(v: np.ndarray) -> np.ndarray:
        return np.concatenate([[0.0], np.cumsum(v)])

    c0, c1, c2 = cumulate(n), cumulate(n * x), cumulate(n * x * x)

    def below(t: np.ndarray) -> list[np.ndarray]:
        return [np.interp(t, edges, c) for c in (c0, c1, c2)]

    def cost(lo: np.ndarray, hi: np.ndarray) -> np.ndarray:
        l0, l1, l2 = below(lo)
        h0, h1, h2 = below(hi)
        inside = (h0 - l0) * ((hi - lo) / LEVELS) ** 2 / 12
        under = l2 - 2 * lo * l1 + lo * lo * l0
        over = (c2[-1] - h2) - 2 * hi * (c1[-1] - h1) + hi * hi * (c0[-1] - h0)
        return inside + under + over

    return cost


def entropy(h: Histogram) -> Range:
    """The range whose quantized distribution has the least Kullback-Leibler divergence from the original.

    Ranges shrink towards zero at both ends alike. What lies outside is added to the outermost bins.
    """
    if h.counts.sum() <= 0 or h.hi <= h.lo:
        return h.lo, h.hi
    lo, hi = min(h.lo, 0.0), max(h.hi, 0.0)
    best, best_divergence = 1.0, np.inf
    for shrink in np.linspace(1.0, 0.1, 91):
        divergence = _divergence(h, lo * shrink, hi * shrink)
        if divergence < best_divergence - 1e-12:
            best, best_divergence = shrink, divergence
    return max(lo * best, h.lo), min(hi * best, h.hi)


def _divergence(h: Histogram, lo: float, hi: float) -> float:
    """KL(P || Q) over the bins in [lo, hi]; infinite where too few bins are left to tell."""
    first = max(int((lo - h.start) / h.width), 0)
    last = min(int(np.ceil((hi - h.start) / h.width)), BINS)
    if last - first < 2 * LEVELS:
        return np.inf
    inside = h.counts[first:last].astype(np.float64)
    p = inside.copy()
    p[0] += h.counts[:first].sum()
    p[-1] += h.counts[last:].sum()
    group = np.arange(p.size) * LEVELS // p.size
    occupied = p > 0
    members = np.bincount(group, occupied, LEVELS)
    q = np.where(occupied, (np.bincount(group, inside, LEVELS) / np.maximum(members, 1))[group], 0.0)
    p, q = p / p.sum(), q / max(q.sum(), 1e-300)
    p, q = p[occupied], np.maximum(q[occupied], 1e-12)
    return float(np.sum(p * np.log(p / q)))


METHODS: dict[str, Callable[[Histogram], Range]] = {
    "auto": mse,
    "minmax": minmax,
    "percentile": percentile,
    "mse": mse,
    "entropy": entropy,
}
"""`auto` is the default recipe: it starts from `mse`, and `refine` improves on it."""
