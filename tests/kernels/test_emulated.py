# SPDX-License-Identifier: Apache-2.0
"""Every kernel of every set that an emulated target has, against the scalar one of this machine.

The processor of the emulator is the one that targets/ names for the set: it has nothing newer, so that an
instruction from beyond the set ends the driver. EDGEKIT_EMULATED_VALUES sets the output values per kernel and
set (10^6), EDGEKIT_SEED the first case. A kernel, set or target that is added is tested without a change here.
"""

from __future__ import annotations

import os
import shutil
from functools import cache

import pytest

from edgekit.building.targets import Target, TargetError
from kernels.cases import case
from kernels.driver import Driver, build_driver, compare_with_scalar, emulated_targets
from kernels.harness import Kernel, first_seed, listed_kernels, scalar_of

VALUES = int(float(os.environ.get("EDGEKIT_EMULATED_VALUES", "1e6")))
SEED = first_seed()
TARGETS = {target.name: target for target in emulated_targets()}
RUNS = [
    (target.name, kernel_set, name, kind)
    for target in TARGETS.values()
    for kernel_set in target.verify
    for name, kind, its_set in listed_kernels()
    if its_set == kernel_set
]


def why_not(target: Target) -> str | None:
    """None if the target can be built and emulated here."""
    if shutil.which(target.emulator[0]) is None:
        return f"{target.emulator[0]} is not installed"
    try:
        target.toolchain()
    except TargetError as error:
        return str(error)
    return None


@cache
def driver(target: str, kernel_set: str) -> Driver:
    """The driver under the emulator, as the set's processor."""
    described = TARGETS[target]
    return Driver([described.emulator[0], "-cpu", described.verify[kernel_set], str(build_driver(described))])


@pytest.mark.slow
@pytest.mark.parametrize(("target", "kernel_set", "name", "kind"), RUNS)
def test_emulated_kernel(target: str, kernel_set: str, name: str, kind: str, kernels: list[Kernel]) -> None:
    """The kernel gives the scalar kernel's bits on at least VALUES outputs."""
    if reason := why_not(TARGETS[target]):
        pytest.skip(reason)
    machine = driver(target, kernel_set)
    if name not in machine.kernels:
        pytest.skip(f"{name} is not part of this build")
    kernel = machine.kernels[name]
    assert kernel.set == kernel_set
    scalar = scalar_of(kind, kernels)
    print(f"EDGEKIT_SEED={SEED}")
    values, cases = compare_with_scalar(machine, kernel, scalar, lambda seed: case(kind, seed, name), SEED, VALUES)
    print(f"{name} on {target}, {TARGETS[target].verify[kernel_set]}: {values} values in {cases} cases")
