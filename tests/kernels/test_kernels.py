# SPDX-License-Identifier: Apache-2.0
"""Every kernel of kernels.def against the scalar one of its kind: equal outputs, nothing written beside.

EDGEKIT_KERNEL_VALUES sets the output values per kernel (10^7), EDGEKIT_SEED the first case. A kernel
added to the list is tested without a change here.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from kernels.cases import GENERATORS, case
from kernels.harness import (
    Kernel,
    Machine,
    compare,
    ffi,
    first_seed,
    isolated,
    listed_kernels,
    scalar_of,
    why_not_here,
)

VALUES = int(float(os.environ.get("EDGEKIT_KERNEL_VALUES", "1e7")))
SEED = first_seed()
VECTOR_KERNELS = [k for k in listed_kernels() if k[2] != "scalar"]
PACKINGS = ((16, 4), (8, 1), (32, 4), (1, 16), (64, 2), (4, 8))


def test_list_is_complete(kernels: list[Kernel]) -> None:
    """Every kind has a scalar kernel that takes any case, last of its kind, and a generator here."""
    for kind in GENERATORS:
        last = [k for k in kernels if k.kind == kind][-1]
        assert last.set == "scalar" and last.supports is None
    assert {k.kind for k in kernels} == set(GENERATORS)


@pytest.mark.slow
@pytest.mark.parametrize("name", [k[0] for k in VECTOR_KERNELS])
def test_vector_kernel(name: str, kernels: list[Kernel]) -> None:
    """The kernel gives the scalar kernel's bits on at least VALUES outputs."""
    kernel = next((k for k in kernels if k.name == name), None)
    if kernel is None:
        pytest.skip("not part of this build")
    if reason := why_not_here(kernel.set):
        pytest.skip(reason)
    scalar = scalar_of(kernel.kind, kernels)
    print(f"EDGEKIT_SEED={SEED}")

    def work(note):  # type: ignore[no-untyped-def]
        machine, values, seed = Machine(), 0, SEED
        while values < VALUES:
            assert seed - SEED < 1000 or values > 0, "no case is supported"
            note(f"{name}, case {seed} (EDGEKIT_SEED={SEED})")
            c = case(kernel.kind, seed, name)
            got = machine.run(kernel, c)
            if got is not None:
                compare(kernel, c, got, machine.run(scalar, c))
                values += c.values
            seed += 1
        return values, seed - SEED

    values, cases = isolated(work)
    print(f"{name}: {values} values in {cases} cases")


@pytest.mark.parametrize(
    ("kernel_w", "stride_w", "dilation_w", "out_w"), [(2, 1, 1 << 20, 3), (3, 1, 1 << 12, 1), (2, 1 << 20, 1, 3)]
)
def test_depthwise_scratch_is_bounded(
    kernels: list[Kernel], kernel_w: int, stride_w: int, dilation_w: int, out_w: int
) -> None:
    """However far apart taps and windows are, which a file of any size can say, scratch is as large as what they read."""
    fields = {
        "in": {"n": 1, "h": 1, "w": 1, "c": 64, "n_stride": 64, "h_stride": 64, "w_stride": 64},
        "out": {"n": 1, "h": 1, "w": out_w, "c": 64, "n_stride": 64 * out_w, "h_stride": 64 * out_w, "w_stride": 64},
        "groups": 64, "kernel_h": 1, "kernel_w": kernel_w, "stride_h": 1, "stride_w": stride_w, "dilation_h": 1,
        "dilation_w": dilation_w, "pad_top": 0, "pad_left": (kernel_w - 1) * dilation_w,
    }  # fmt: skip
    params = ffi.new("ek_conv_params *", fields)
    for kernel in kernels:
        if kernel.kind == "depthwise" and kernel.scratch and kernel.supports(params):
            assert kernel.scratch(params) <= 1 << 16, kernel.name


def test_scalar_reads_every_packing(kernels: list[Kernel]) -> None:
    """conv2d_scalar gives the same bits from INTERLEAVED weights as from DENSE ones."""
    scalar = next(k for k in kernels if k.name == "conv2d_scalar")
    print(f"EDGEKIT_SEED={SEED}")

    def work(note):  # type: ignore[no-untyped-def]
        machine = Machine()
        for seed in range(SEED, SEED + 60):
            note(f"case {seed}")
            c = case("conv2d", seed)
            compare(scalar, c, machine.run(scalar, c, PACKINGS[seed % len(PACKINGS)]), machine.run(scalar, c))

    isolated(work)


def test_crash_is_reported() -> None:
    """A kernel that dies is a failure that names its case."""

    def work(note):  # type: ignore[no-untyped-def]
        note("case 7")
        os.kill(os.getpid(), 11)

    with pytest.raises(AssertionError, match="SIGSEGV in case 7"):
        isolated(work)


def test_guard_page_stops_overread(tmp_path: Path) -> None:
    """Reading one byte behind an input, or before it, ends in a fault and not in silence."""
    from kernels.harness import Slot

    def reader(at_end: bool, offset: int):  # type: ignore[no-untyped-def]
        def work(note):  # type: ignore[no-untyped-def]
            note("the read")
            slot = Slot(1 << 16)
            pointer = ffi.cast("char *", slot.place(np.zeros(100, np.uint8), at_end, 1))
            return pointer[offset]

        return work

    assert isolated(reader(True, 99)) == b"\0"
    for at_end, offset in ((True, 100), (False, -1)):
        with pytest.raises(AssertionError, match="SIGSEGV"):
            isolated(reader(at_end, offset))
