# SPDX-License-Identifier: Apache-2.0
"""Every backend on random programs of every operator, through a file."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from edgekit.format.writer import write
from edgekit.plan import plan
from edgekit.verify import verify
from tests.backends import not_emulated
from tests.support import OPERATORS, cases

CASES = 30

pytestmark = pytest.mark.skipif(
    find_spec("edgekit.runtime._native") is None, reason="the C runtime is not built: pip install ."
)


@pytest.mark.parametrize("operator", OPERATORS)
def test_all_backends_agree(operator: str, tmp_path: Path) -> None:
    for case in cases(operator, range(1000, 1000 + CASES)):
        plan(case.program)
        path = tmp_path / "model.ekm"
        write(case.program, path)
        report = verify(path, case.samples, backends=not_emulated(path))
        assert report.ok, f"{case.about}\n{report.problems()}"
        names = [b.name for b in report.backends]
        assert {"reference", "c-scalar", "onnxruntime"} <= set(names)
        assert {b.tensors for b in report.backends} == {1}, "a backend does not show every tensor"
    print(f"{operator}: seeds 1000 to {999 + CASES}, {', '.join(names)}")
