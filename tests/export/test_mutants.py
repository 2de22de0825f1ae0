# SPDX-License-Identifier: Apache-2.0
"""Plausible errors in the arithmetic are seen by the random and directed cases.

The reference is altered and must then differ from ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgekit import program as p
from edgekit.reference import add, prelu, rounding, softmax
from edgekit.reference.rounding import centered, saturate
from edgekit.verify import verify
from tests.support import Build, cases, quant

Arithmetic = Callable[..., np.ndarray]
BACKENDS = ("reference", "onnxruntime")


def half_away_from_zero(real: np.ndarray, zero: int, lo: int, hi: int) -> np.ndarray:
    return saturate(np.copysign(np.floor(np.abs(real) + np.float32(0.5)), real), zero, lo, hi)


def half_up(real: np.ndarray, zero: int, lo: int, hi: int) -> np.ndarray:
    return saturate(np.floor(real + np.float32(0.5)), zero, lo, hi)


def zero_point_before_rounding(real: np.ndarray, zero: int, lo: int, hi: int) -> np.ndarray:
    return saturate(real + np.float32(zero), 0, lo, hi)


def no_clamp(real: np.ndarray, zero: int, lo: int, hi: int) -> np.ndarray:
    return saturate(real, zero, -128, 127)


@pytest.mark.parametrize("mutant", [half_away_from_zero, half_up, zero_point_before_rounding, no_clamp])
@pytest.mark.parametrize("operator", ["conv2d", "dense", "add", "mul", "average_pool", "prelu", "softmax"])
def test_wrong_rounding_is_seen(operator: str, mutant: Arithmetic, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (rounding, add, prelu, softmax):
        monkeypatch.setattr(module, "saturate", mutant)
    assert any(
        not verify(case.program, case.samples, backends=BACKENDS).ok for case in cases(operator, range(45))
    )


def fused_left(a: np.ndarray, b: np.ndarray, ra: np.float32, rb: np.float32, **q: int) -> np.ndarray:
    """fma(a - za, ra, f32((b - zb) * rb)): the exact product, added and rounded once."""
    product = centered(a, q["a_zero"]).astype(np.float64) * np.float64(ra)
    other = (centered(b, q["b_zero"]).astype(np.float32) * rb).astype(np.float64)
    return saturate((product + other).astype(np.float32), q["y_zero"], q["lo"], q["hi"])


def fused_right(a: np.ndarray, b: np.ndarray, ra: np.float32, rb: np.float32, **q: int) -> np.ndarray:
    swapped = {**q, "a_zero": q["b_zero"], "b_zero": q["a_zero"]}
    return fused_left(b, a, rb, ra, **swapped)


@pytest.mark.parametrize("mutant", [None, fused_left, fused_right])
def test_fused_multiply_add_is_seen(mutant: Arithmetic | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of these 65,536 pairs differs for each way to fuse; random parameters seldom have any."""
    b = Build()
    left, right = b.input((256, 1), quant(0.06264167, -90)), b.input((1, 256), quant(0.10809808, 110))
    program = b.finish(b.op(p.Add, [left, right], (256, 256), quant(0.13377255, 0), lo=-128, hi=127))
    values = np.arange(-128, 128).astype(np.int8)
    if mutant is not None:
        monkeypatch.setattr(add, "add", mutant)
    report = verify(program, [{left: values[:, None], right: values[None]}], backends=BACKENDS)
    assert (report.mismatches > 0) == (mutant is not None)
