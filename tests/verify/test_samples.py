# SPDX-License-Identifier: Apache-2.0
"""Synthetic samples: reproducible, and adversarial where it counts."""

from __future__ import annotations

from itertools import islice

import numpy as np

from edgekit import program as p
from edgekit.format.schema import Dtype
from edgekit.reference.executor import run
from edgekit.verify import verify
from edgekit.verify.samples import Samples, synthetic
from tests.support import Build, Random, quant


def port(q: p.Quant, **raw: object) -> p.Program:
    b = Build()
    b.float_output(b.float_input((1, 5, 7, 3), q, **raw))
    return b.finish()


def quantized(program: p.Program, count: int, seed: int = 0) -> list[np.ndarray]:
    """The int8 tensor behind the input for the first samples."""
    name = program.ops[0].outputs[0]
    return [run(program, s, taps=True)[1][name] for s in islice(synthetic(program, seed), count)]


def test_a_seed_always_gives_the_same_samples() -> None:
    """The digest is fixed: certificates made on one machine are checked on others, years later."""
    samples = Samples(port(quant(0.1, 3)), None, 20, seed=5)
    assert len(list(samples)) == 20
    assert samples.describe()["sha256"] == "2601b5847152b90d399d2620eabfd2ac2c7b16f0aa65df4d4574996ee48df99d"
    other = Samples(port(quant(0.1, 3)), None, 20, seed=6)
    list(other)
    assert other.describe()["sha256"] != samples.describe()["sha256"]


def test_directed_samples_come_first() -> None:
    lowest, highest, turns, ramp, specials, *noise = quantized(port(quant(0.03, -90)), 12)
    assert set(lowest.ravel()) == {-128} and set(highest.ravel()) == {127}
    assert set(turns.ravel()) == {-128, 127}
    assert len(np.unique(ramp)) == 105
    assert {-128, 127, -90} <= set(specials.ravel())
    assert all(len(np.unique(q)) > 60 for q in noise)


def test_noise_holds_ties() -> None:
    """Values halfway between two steps, with a scale that divides exactly."""
    program = port(quant(0.25, 1))
    noise = list(islice(synthetic(program, 0), 10))[-1][program.inputs[0]] / np.float32(0.25)
    assert np.count_nonzero(noise % 1 == 0.5) > 5


def test_raw_and_float_alternate_where_the_model_takes_both() -> None:
    rng = Random(1)
    program = port(
        quant(0.1, 3), raw_dtype=Dtype.U8, raw_perm=(0, 1, 2, 3), raw_table=rng.int8(3, 256), table_axis=3,
        raw_mean=np.zeros(3, np.float32), raw_std=np.ones(3, np.float32),
    )  # fmt: skip
    kinds = [s[program.inputs[0]].dtype for s in islice(synthetic(program, 0), 6)]
    assert kinds == [np.float32, np.uint8] * 3
    report = verify(program, samples=16, backends=["reference", "onnxruntime"])
    assert report.ok, report.problems()


def test_quantized_ports_get_int8() -> None:
    b = Build()
    x = b.input((3, 4), quant(0.1, 5))
    program = b.finish(b.op(p.Lut, [x], (3, 4), quant(0.1), table=Random(0).int8(256)))
    assert all(s[x].dtype == np.int8 for s in islice(synthetic(program, 0), 9))
    assert verify(program, samples=9, backends=["reference", "onnxruntime"]).ok
