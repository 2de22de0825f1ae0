# SPDX-License-Identifier: Apache-2.0
"""The square roots of kernels/square_root.h, by integers and by this processor, against the correctly rounded one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import cffi
import numpy as np
import pytest

from kernels.harness import CFLAGS, CSRC

SOURCE = """
#include <stddef.h>
#include "square_root.h"
void by_integers(const float *x, float *y, size_t count)
{
    for (size_t i = 0; i < count; i++)
        y[i] = ek_square_root_by_integers(x[i]);
}
void here(const float *x, float *y, size_t count)
{
    for (size_t i = 0; i < count; i++)
        y[i] = ek_square_root(x[i]);
}
"""


@pytest.fixture(scope="module", params=["by_integers", "here"])
def roots(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    folder: Path = tmp_path_factory.mktemp("roots")
    (folder / "roots.c").write_text(SOURCE)
    command = ["gcc", *CFLAGS, "-shared", f"-I{CSRC / 'kernels'}", str(folder / "roots.c"), "-o", str(folder / "roots.so")]
    subprocess.run(command, check=True)
    ffi = cffi.FFI()
    ffi.cdef("void by_integers(const float *x, float *y, size_t count); void here(const float *x, float *y, size_t count);")
    library = ffi.dlopen(str(folder / "roots.so"))

    def run(x: np.ndarray) -> np.ndarray:
        y = np.empty_like(x)
        getattr(library, request.param)(ffi.from_buffer("float[]", x), ffi.from_buffer("float[]", y, require_writable=True), x.size)
        return y

    return run


def test_every_significand(roots) -> None:
    """All numbers in [1, 4): significands of both kinds of exponent."""
    x = np.arange(0x3F800000, 0x40800000, dtype=np.uint32).view(np.float32)
    assert np.array_equal(roots(x), np.sqrt(x))


def test_every_exponent(roots) -> None:
    bits = np.random.default_rng(1).integers(1 << 23, 255 << 23, 1 << 20, dtype=np.uint32)
    ends = np.array([1 << 23, (255 << 23) - 1], np.uint32)
    x = np.concatenate([bits, ends]).view(np.float32)
    assert np.array_equal(roots(x), np.sqrt(x))
