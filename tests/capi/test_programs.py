# SPDX-License-Identifier: Apache-2.0
"""Every operator, packing of weights, kernel set and number of threads gives the reference's bits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from edgekit import program as p
from edgekit.format.writer import Packing, write
from edgekit.plan.planner import plan
from edgekit.reference.executor import run as reference
from edgekit.runtime import kernels as kernel_sets
from edgekit.runtime.capi import lib
from tests.capi.net import Net
from tests.support import OPERATORS, Random

PACKINGS = {
    "dense": Packing(sparse_below=0),
    "interleaved": Packing(tile=(8, 4), sparse_below=0),
    "narrow": Packing(tile=(1, 16), sparse_below=0),
    "sparse": Packing(sparse_below=100),
}
WEIGHTED = ("conv2d", "depthwise_conv2d", "dense")


def words() -> Iterator[int]:
    """ek_kernels: each set of this processor, with and without EK_REPACK."""
    for name in kernel_sets.available():
        yield kernel_sets.mask(name)
        yield kernel_sets.mask(name) | lib.EK_REPACK


def packings(operator: str) -> dict[str, Packing]:
    return PACKINGS if operator in WEIGHTED else {"dense": PACKINGS["dense"]}


def thin_out(program: p.Program, r: Random) -> None:
    """Sets most weights to zero."""
    for tensor in program.tensors.values():
        if tensor.data is not None and tensor.quant is None:
            keep = r.rng.random(tensor.data.shape) < r.rng.choice([0.0, 0.1, 0.5, 1.0])
            tensor.data = np.where(keep, tensor.data, 0).astype(np.int8)


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_packing_and_kernel_set_equals_the_reference(operator: str, seed: int) -> None:
    for offset in range(12):
        r = Random(seed + offset)
        program = OPERATORS[operator](r)
        thin_out(program, r)
        plan(program)
        samples = r.samples(program, 2)
        expected = [reference(program, sample) for sample in samples]
        for label, packing in packings(operator).items():
            data = write(program, packing=packing)
            for word in words():
                net = Net(data, word)
                for sample, want in zip(samples, expected, strict=True):
                    got = net.run(sample)
                    for name, array in got.items():
                        where = f"seed {seed + offset}, {label}, kernels {word:#x}, {program.ops[0]}"
                        np.testing.assert_array_equal(array, want[name], where)
