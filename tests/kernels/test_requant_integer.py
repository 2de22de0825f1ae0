# SPDX-License-Identifier: Apache-2.0
"""Requantization by integers, as processors without FPU do it, against binary32 arithmetic on this machine."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.reference.rounding import requantize

HERE = Path(__file__).parent
CSRC = HERE.parents[1] / "csrc"
FLAGS = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off"]
CASES = 100_000_000


def compile_form(csrc: Path, output: Path, *flags: str) -> Path:
    subprocess.run(["cc", *FLAGS, f"-I{csrc}", *flags, "-c", str(HERE / "requant_form.c"), "-o", str(output)], check=True)
    return output


def link(folder: Path, integer: Path) -> Path:
    program = folder / "requant_forms"
    floating = compile_form(CSRC, folder / "float.o")
    sources = [str(HERE / "requant_forms.c"), str(floating), str(integer)]
    subprocess.run(["cc", *FLAGS, f"-I{CSRC}", *sources, "-lm", "-o", str(program)], check=True)
    return program


def test_equal_on_random_and_directed_cases(tmp_path: Path, seed: int) -> None:
    program = link(tmp_path, compile_form(CSRC, tmp_path / "integer.o", "-DEK_NO_FPU"))
    done = subprocess.run([str(program), str(seed), str(CASES)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    counts = [int(word) for word in done.stdout.split()[1::2]]
    assert sum(counts) >= CASES and min(counts) > CASES // 8


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("integer", "#define EK_PRODUCT_WINDOW (1u << (32 - 14))", "#define EK_PRODUCT_WINDOW 0u"),
        ("integer", "#define EK_PRODUCT_WINDOW (1u << (32 - 14))", "#define EK_PRODUCT_WINDOW (1u << (32 - 20))"),
        ("integer", "#define EK_SUM_WINDOW (255 + 3 * 64)", "#define EK_SUM_WINDOW 0"),
        ("integer", "- 1 + odd) >> shift", "- 1 + 1 + 0 * odd) >> shift"),
        ("integer", "rounded = 1 << 9", "rounded = 1 << 6"),
        ("integer", "+ (1 << (k - 1))", ""),
        ("fixed", "(EK_FIXED_LOST + (1 << 14) + (1 << (EK_FIXED_BITS - 14)))", "(EK_FIXED_LOST + (1 << 13))"),
        ("fixed", "#define EK_FIXED_LOST (1 << 14)", "#define EK_FIXED_LOST (1 << 13)"),
        ("fixed", "((1 << 15) - 1) << f.shift", "(1 << 14) << f.shift"),
        ("fixed", "1 << (135 - exponent)", "1 << (134 - exponent)"),
        ("fixed", "acc + (uint32_t)f->limit > 2 * (uint32_t)f->limit", "0"),
    ],
)
def test_the_cases_see_errors(file: str, old: str, new: str, tmp_path: Path) -> None:
    shutil.copytree(CSRC / "kernels", tmp_path / "kernels")
    header = tmp_path / "kernels" / f"requant_{file}.h"
    text = header.read_text()
    assert text.count(old) == 1
    header.write_text(text.replace(old, new))
    program = link(tmp_path, compile_form(tmp_path, tmp_path / "integer.o", "-DEK_NO_FPU"))
    done = subprocess.run([str(program), "1", "20000000"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "differs" in done.stdout


class Clamp(ctypes.Structure):
    """ek_clamp"""

    _fields_ = [("zero", ctypes.c_int32), ("lo", ctypes.c_int32), ("hi", ctypes.c_int32)]


@pytest.fixture(scope="module")
def integer_form(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ctypes.CDLL]:
    path = tmp_path_factory.mktemp("requant") / "integer.so"
    command = ["cc", *FLAGS, "-fPIC", "-shared", "-DEK_NO_FPU", f"-I{CSRC}", str(HERE / "requant_form.c"), "-o", str(path)]
    subprocess.run(command, check=True)
    library = ctypes.CDLL(str(path))
    library.integer_requantize.argtypes = [ctypes.c_int32, ctypes.c_float, ctypes.POINTER(Clamp)]
    library.integer_requantize.restype = ctypes.c_int8
    yield library


@settings(max_examples=2000, deadline=None)
@given(
    acc=st.integers(-(2**31), 2**31 - 1) | st.integers(-(2**17), 2**17),
    multiplier=st.floats(2**-96, 2**64, width=32) | st.floats(2**-20, 1, width=32),
    zero=st.integers(-128, 127),
    ends=st.tuples(st.integers(-128, 127), st.integers(-128, 127)),
)
def test_equal_to_the_reference(
    integer_form: ctypes.CDLL, acc: int, multiplier: float, zero: int, ends: tuple[int, int]
) -> None:
    lo, hi = sorted(ends)
    expected = requantize(np.array([acc], np.int32), np.float32(multiplier), zero, lo, hi)
    assert integer_form.integer_requantize(acc, multiplier, ctypes.byref(Clamp(zero, lo, hi))) == expected[0]
