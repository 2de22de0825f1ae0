# SPDX-License-Identifier: Apache-2.0
"""The driver of the emulated kernel tests notices what it is there for. It runs here natively."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.building.targets import read_target
from kernels import driver as driver_module
from kernels.cases import GENERATORS, case
from kernels.driver import Driver, RemoteKernel, build_driver, compare_with_scalar
from kernels.harness import ROOT, Case, Kernel, scalar_of

SEED = 4711


@pytest.fixture(scope="module")
def driver() -> Driver:
    return Driver([str(build_driver(read_target(ROOT, "host")))])


def test_it_lists_this_build(driver: Driver, kernels: list[Kernel]) -> None:
    listed = {(k.name, k.set, k.tile_n, k.tile_k, k.x_offset) for k in driver.kernels.values()}
    assert listed == {(k.name, k.set, k.tile_n, k.tile_k, k.x_offset) for k in kernels}


@pytest.mark.parametrize("kind", GENERATORS)
def test_every_kind_passes(driver: Driver, kernels: list[Kernel], kind: str) -> None:
    kernel = driver.kernels[f"{kind}_scalar"]
    values, cases = compare_with_scalar(driver, kernel, scalar_of(kind, kernels), lambda seed: case(kind, seed), SEED, 20_000)
    assert values >= 20_000 and cases >= 1


def test_a_wrong_value_is_found(driver: Driver, kernels: list[Kernel], monkeypatch: pytest.MonkeyPatch) -> None:
    """One that the driver computes from a case with another table."""

    def altered(case: Case, kernel: RemoteKernel) -> bytes:
        return encode(replace(case, arrays={"table": case.arrays["table"] ^ 1}), kernel)

    encode = driver_module.encode
    monkeypatch.setattr(driver_module, "encode", altered)
    with pytest.raises(AssertionError, match=r"case 4711: lut_scalar: .* differ; at 0"):
        kernel = driver.kernels["lut_scalar"]
        compare_with_scalar(driver, kernel, scalar_of("lut", kernels), lambda seed: case("lut", seed), SEED, 1000)


def beyond(size: int, behind: int, placement: int) -> Case:
    """A table look-up that writes `behind` values more than its output holds."""
    x, table = np.zeros(size + behind, np.int8), np.arange(256).astype(np.uint8).view(np.int8)
    whole = (0, 1, 0, 1, 0, size + behind)
    return Case("lut", {"size": size + behind}, [x], np.zeros(size, np.int8), whole, size, {"table": table}, placement=placement)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (beyond(100, 1, 0b000), "wrote beside buffer 1"),
        (beyond(100, 1, 0b100), "ended with -11"),  # the output ends at a guard page
        (beyond(100, 5000, 0b000), "ended with -11"),
    ],
)
def test_a_write_beside_the_output_is_found(driver: Driver, made: Case, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        driver.run(driver.kernels["lut_scalar"], [case("lut", SEED), made])


def test_a_read_beside_an_input_is_found(driver: Driver) -> None:
    made = beyond(100, 0, 0b001)
    made.inputs[0] = made.inputs[0][:99]
    with pytest.raises(AssertionError, match="ended with -11"):
        driver.run(driver.kernels["lut_scalar"], [made])


def test_a_driver_that_dies_at_once_is_reported(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="sends no list of kernels"):
        Driver(["/bin/sh", "-c", "exit 3"])
