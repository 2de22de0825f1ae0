# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime in a default session gives the reference's bits, operator by operator."""

from __future__ import annotations

import pytest

from edgekit.verify import verify
from tests.support import OPERATORS, cases

CASES = 45


@pytest.mark.parametrize("operator", OPERATORS)
def test_same_bits_as_the_reference(operator: str) -> None:
    values = 0
    for case in cases(operator, range(CASES)):
        report = verify(case.program, case.samples, backends=["reference", "onnxruntime"])
        assert report.ok, f"{case.about}\n{report.problems()}"
        values += report.backends[1].values
    print(f"{operator}: seeds 0 to {CASES - 1}, {values} values, 0 differ")
