# SPDX-License-Identifier: Apache-2.0
"""Log-mel features of one second of sound, in integers: what log_mel.c computes, bit for bit.

    python log_mel.py

writes `log_mel_tables.h`, the tables that both use.

One of `FRAMES` frames begins every `HOP` samples. Its `FRAME` samples are windowed and transformed; `BANDS` overlapping triangles,
equally wide in mel, weigh the squared magnitudes; a band's energy becomes an int8 on a scale of four steps to the factor of two.
Every `>>` rounds down, and nothing saturates.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

RATE = 16000
"""Samples in a second, which is the length of a clip."""
FRAME = 512
HOP = 328
FRAMES = 48
BANDS = 16
LOWEST, HIGHEST = 125, 7500
"""Hertz: where the first band begins and the last one ends."""

_POINTS = FRAME // 2
"""Of the complex transform: two samples are one number."""


def _band_edges() -> np.ndarray:
    """Bins between which bands rise and fall: band b from edge b over b + 1 to b + 2. int64[BANDS + 2]"""
    mel = np.linspace(*(1127 * np.log(1 + np.array([LOWEST, HIGHEST]) / 700)), BANDS + 2)
    return np.rint(700 * (np.exp(mel / 1127) - 1) * FRAME / RATE).astype(np.int64)


COSINE = np.rint(32767 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME)).astype(np.int64)
"""A turn in FRAME steps, in units of 1/32767."""
BAND_EDGES = _band_edges()


def log_mel(sound: np.ndarray) -> np.ndarray:
    """Features of clips.

    Args:
        sound: int16[N, RATE].

    Returns:
        int8[N, FRAMES, BANDS]
    """
    frames = sliding_window_view(sound, FRAME, axis=1)[:, : FRAMES * HOP : HOP].astype(np.int64)
    assert frames.shape[1] == FRAMES, frames.shape
    hann = 32767 - COSINE >> 1  # 0 to 32767
    power = _power(_rounded(frames * hann))
    return _quarter_log2(_band_energies(power))


def _rounded(x: np.ndarray) -> np.ndarray:
    """x / 2^15 to the nearest, ties up."""
    return x + (1 << 14) >> 15


def _times_turn(re: np.ndarray, im: np.ndarray, turn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(re, im) times e^(-2 pi i turn / FRAME)."""
    c, s = COSINE[turn], COSINE[turn - FRAME // 4]
    return _rounded(re * c + im * s), _rounded(im * c - re * s)


def _transform(re: np.ndarray, im: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The discrete Fourier transform along the last axis of _POINTS numbers; decimation in time, radix 2."""
    bits = _POINTS.bit_length() - 1
    order = [int(f"{i:0{bits}b}"[::-1], 2) for i in range(_POINTS)]
    shape = re.shape
    re, im = re[..., order], im[..., order]
    half = 1
    while half < _POINTS:
        pairs = (*shape[:-1], _POINTS // (2 * half), 2, half)
        (a, b), (c, d) = (np.moveaxis(part.reshape(pairs), -2, 0) for part in (re, im))
        b, d = _times_turn(b, d, np.arange(half) * (FRAME // (2 * half)))
        re = np.stack([a + b, a - b], -2).reshape(shape)
        im = np.stack([c + d, c - d], -2).reshape(shape)
        half *= 2
    return re, im


def _power(x: np.ndarray) -> np.ndarray:
    """|2 X|^2 of bins 1 to _POINTS - 1 of the transform X of real frames; index 0 is bin 0 and not used.

    The transform Z of x[2n] + i x[2n + 1] holds those of the even samples, E = (Z[k] + Z*[-k]) / 2, and of the odd ones,
    O = (Z[k] - Z*[-k]) / 2i; X[k] = E[k] + e^(-2 pi i k / FRAME) O[k].
    """
    re, im = _transform(x[..., 0::2], x[..., 1::2])
    k = np.arange(_POINTS)
    a, b, c, d = re, im, re[..., -k], im[..., -k]
    odd_re, odd_im = _times_turn(b + d, c - a, k)
    return (a + c + odd_re) ** 2 + (b - d + odd_im) ** 2


def _band_energies(power: np.ndarray) -> np.ndarray:
    """Bands in units of 1/256: a bin between two edges belongs to the band that rises there and the one that falls."""
    energies = np.zeros((*power.shape[:-1], BANDS), np.int64)
    for segment, (low, high) in enumerate(pairwise(BAND_EDGES)):
        rising = (np.arange(high - low) << 8) // (high - low)
        bins = power[..., low:high]
        if segment < BANDS:
            energies[..., segment] += (bins * rising).sum(-1)
        if segment > 0:
            energies[..., segment - 1] += (bins * (256 - rising)).sum(-1)
    return energies


def _quarter_log2(energy: np.ndarray) -> np.ndarray:
    """About 4 log2(energy) - 128, linear between powers of two and below 4."""
    steps = np.full(energy.shape, -124, np.int64)
    energy = energy.copy()
    while (large := energy >= 8).any():
        energy[large] >>= 1
        steps[large] += 4
    return (steps + energy).astype(np.int8)


def tables() -> str:
    """The text of log_mel_tables.h."""
    cosine = "\n".join("    " + " ".join(f"{v}," for v in COSINE[i : i + 12]) for i in range(0, FRAME, 12))
    return f"""\
/* SPDX-License-Identifier: Apache-2.0
 *
 * Written by log_mel.py.
 */
#ifndef LOG_MEL_TABLES_H
#define LOG_MEL_TABLES_H

#include <stdint.h>

#include "log_mel.h"

_Static_assert(LOG_MEL_SAMPLES == {RATE} && LOG_MEL_FRAME == {FRAME} && LOG_MEL_HOP == {HOP}
                   && LOG_MEL_FRAMES == {FRAMES} && LOG_MEL_BANDS == {BANDS},
               "log_mel.h has the sizes of log_mel.py");

/* A turn in steps, in units of 1/32767. */
static const int16_t log_mel_cosine[LOG_MEL_FRAME] = {{
{cosine}
}};

/* Bins: band b rises from edge b to b + 1 and falls from there to b + 2. */
static const uint8_t log_mel_band_edges[LOG_MEL_BANDS + 2] = {{
    {" ".join(f"{v}," for v in BAND_EDGES)}
}};

#endif /* LOG_MEL_TABLES_H */
"""


if __name__ == "__main__":
    Path(__file__).with_name("log_mel_tables.h").write_text(tables(), encoding="utf-8")
