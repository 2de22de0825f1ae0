# SPDX-License-Identifier: Apache-2.0
"""Requantization against exact rational arithmetic, directed at ties, ulps and ends."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from edgekit.reference.rounding import requantize, saturate, wrap

SEED = 7


def exact(acc: int, multiplier: np.float32, zero: int, lo: int, hi: int) -> int:
    """The contract in rationals: binary32 rounding of the accumulator and the product, then half to even.

    The product of two binary32 numbers has 48 bits, so binary64 holds it exactly and rounds it once.
    """
    real = np.float32(np.float64(np.float32(acc)) * np.float64(multiplier))
    return min(max(round(Fraction(float(real))) + zero, lo), hi)


def check(acc: np.ndarray, multiplier: np.float32, zero: int, lo: int = -128, hi: int = 127) -> None:
    expected = [exact(int(a), multiplier, zero, lo, hi) for a in acc]
    np.testing.assert_array_equal(requantize(acc.astype(np.int32), multiplier, zero, lo, hi), expected)


@pytest.mark.parametrize("zero", [-128, -37, -1, 0, 1, 3, 127])
@pytest.mark.parametrize("shift", range(1, 8))
def test_ties_of_both_parities_and_signs(shift: int, zero: int) -> None:
    """A multiplier 2^-shift makes every accumulator that is an odd multiple of 2^(shift-1) a tie."""
    ties = np.arange(-301, 302, 2) << (shift - 1)
    check(ties, np.float32(2.0**-shift), zero)


def test_rounds_before_the_zero_point_is_added() -> None:
    """0.5 with zero point 1 is 1; adding first would give 1.5 and so 2."""
    one_half = np.array([0.5, 1.5, -0.5], np.float32)
    np.testing.assert_array_equal(saturate(one_half, 1, -128, 127), [1, 3, 1])


def test_one_ulp_on_either_side_of_a_tie() -> None:
    for k in range(-200, 200):
        tie = np.float32(k + 0.5)
        values = np.array(
            [np.nextafter(tie, np.float32(-1e9)), tie, np.nextafter(tie, np.float32(1e9))], np.float32
        )
        expected = [min(max(round(Fraction(float(v))) - 5, -128), 127) for v in values]
        np.testing.assert_array_equal(saturate(values, -5, -128, 127), expected)


def test_accumulators_around_and_above_2_to_the_24() -> None:
    """Above 2^24 the conversion to binary32 rounds, to even: 2^24 + 1 becomes 2^24."""
    near = np.concatenate([s * (2**e + np.arange(-9, 10)) for s in (1, -1) for e in range(23, 31)])
    ends = np.array([2**31 - 1, -(2**31), 2**30, -(2**30)])
    for e in (20, 23, 24, 25):
        check(np.concatenate([near, ends]), np.float32(2.0**-e * 1.37), 3)


def test_saturation_and_clamp() -> None:
    acc = np.array([-(2**31), -1000, -129, -128, 0, 127, 128, 1000, 2**31 - 1])
    for lo, hi in ((-128, 127), (-3, 9), (5, 5)):
        for multiplier in (np.float32(1), np.float32(2.0**64), np.float32(2.0**-96)):
            check(acc, multiplier, 0, lo, hi)
            check(acc, multiplier, 127, lo, hi)


def test_random_accumulators() -> None:
    rng = np.random.default_rng(SEED)
    print("seed", SEED)
    for _ in range(60):
        acc = rng.integers(-(2 ** int(rng.integers(8, 31))), 2 ** int(rng.integers(8, 31)), 200)
        multiplier = np.float32(np.exp2(rng.uniform(-24, 0)))
        check(acc, multiplier, int(rng.integers(-128, 128)))


def test_nan_and_infinities() -> None:
    values = np.array([np.nan, np.inf, -np.inf], np.float32)
    np.testing.assert_array_equal(saturate(values, 7, -100, 100), [-100, 100, -100])


def test_accumulators_wrap_as_in_c() -> None:
    np.testing.assert_array_equal(wrap(np.array([2**31, -(2**31) - 1, 5])), [-(2**31), 2**31 - 1, 5])
