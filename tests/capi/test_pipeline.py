# SPDX-License-Identifier: Apache-2.0
"""Operators run in several calls, and pipelines: the bits of ek_run wherever a program is cut, inputs in
order, errors with the input that they concern."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.format.writer import write
from edgekit.plan.planner import plan
from edgekit.runtime import kernels as kernel_sets
from edgekit.runtime.capi import ffi, lib
from tests.capi.net import Library, Net, aligned
from tests.random_programs import every_operator, random_program

COUNTER = Path(__file__).resolve().parents[1] / "fuzz" / "corpus" / "valid" / "counter.ekm"

Arrays = dict[str, np.ndarray]


def written(rng: np.random.Generator, ops: int) -> tuple[bytes, int]:
    """A random program's file, and its number of operators."""
    program = random_program(rng, ops)
    plan(program)
    return write(program), len(program.ops)


def noise(net: Net, rng: np.random.Generator) -> Arrays:
    return {
        name: rng.integers(-128, 128, a.shape).astype(np.int8)
        if a.dtype == np.int8
        else rng.normal(0, 3, a.shape).astype(a.dtype)
        for name, a in net.inputs.items()
    }


def assert_same(got: Arrays, expected: Arrays, where: str) -> None:
    assert list(got) == list(expected)
    for name, array in got.items():
        np.testing.assert_array_equal(array, expected[name], f"{where}, {name}")


# ---- ek_run_ops ------------------------------------------------------------------------------------


def test_operators_in_several_calls_do_what_one_run_does(seed: int) -> None:
    for offset in range(8):
        rng = np.random.default_rng(seed + offset)
        data, ops = written(rng, 10)
        net = Net(data, kernel_sets.mask() | lib.EK_REPACK)
        x = noise(net, rng)
        expected = net.run(x)
        for first in range(1, ops + 1):
            for array in net.outputs.values():
                array[...] = 77
            assert lib.ek_run_ops(net.instance, 0, first) == lib.EK_OK
            for op in range(first, ops):
                assert lib.ek_run_ops(net.instance, op, op + 1) == lib.EK_OK
            got = {name: a.copy() for name, a in net.outputs.items()}
            assert_same(got, expected, f"seed {seed + offset}, cut at {first}")


def test_each_call_tells_its_own_operators(seed: int) -> None:
    told: list[tuple[int, int]] = []

    @ffi.callback("ek_on_op")
    def on_op(_: Any, event: Any) -> None:
        told.append((event.op, event.done))

    program = every_operator(np.random.default_rng(seed))
    plan(program)
    net, ops = Net(write(program), on_op=on_op), len(program.ops)
    for first, end in ((0, 3), (3, 3), (3, 4), (4, ops), (ops, ops + 9), (2, 0xFFFFFFFF)):
        told.clear()
        assert lib.ek_run_ops(net.instance, first, end) == lib.EK_OK
        assert told == [(op, done) for op in range(first, min(end, ops)) for done in (0, 1)]
    assert lib.ek_run_ops(net.instance, 2, 1) == lib.EK_ERROR_ARGUMENT
    assert lib.ek_run_ops(ffi.NULL, 0, 1) == lib.EK_ERROR_ARGUMENT


# ---- Pipelines -------------------------------------------------------------------------------------


@contextmanager
def pipeline_of(library: Library, model: Any, instances: list[Any], cuts: list[int]) -> Iterator[Any]:
    out = library.ffi.new("ek_pipeline **")
    status = library.lib.ek_pipeline_create(out, model, instances, len(instances), cuts, len(cuts))
    assert status == lib.EK_OK
    try:
        yield out[0]
    finally:
        library.lib.ek_pipeline_destroy(out[0])


def passed(library: Library, nets: list[Net], cuts: list[int], stream: list[Arrays]) -> list[Arrays]:
    """The outputs of a stream, as many inputs in flight as there are nets."""
    results = []
    with pipeline_of(library, nets[0].file.model, [net.instance for net in nets], cuts) as pipeline:
        pushed = 0
        while len(results) < len(stream):
            while pushed < len(stream) and pushed - len(results) < len(nets):
                for name, array in nets[pushed % len(nets)].inputs.items():
                    array[...] = stream[pushed][name]
                assert library.lib.ek_pipeline_push(pipeline) == lib.EK_OK
                pushed += 1
            net = nets[len(results) % len(nets)]
            assert library.lib.ek_pipeline_pop(pipeline) == lib.EK_OK
            results.append({name: array.copy() for name, array in net.outputs.items()})
    return results


def test_any_number_of_stages_gives_the_same_bits_in_order(library: Library, seed: int) -> None:
    """Up to more stages than operators, then at random cuts with any number of instances."""
    rng = np.random.default_rng(seed)
    data, ops = written(rng, 6)
    word = kernel_sets.mask() | lib.EK_REPACK
    nets = [Net(data, word) for _ in range(2 * ops + 4)]
    stream = [noise(nets[0], rng) for _ in range(25)]
    expected = [nets[0].run(x) for x in stream]
    every = [(2 * n, list(range(n))) for n in range(1, ops + 3)]
    some = [
        (int(rng.integers(1, len(nets))), [0, *np.flatnonzero(rng.random(ops - 1) < 0.4) + 1])
        for _ in range(20)
    ]
    for count, cuts in every + some:
        got = passed(library, nets[:count], cuts, stream)
        for i, (outputs, want) in enumerate(zip(got, expected, strict=True)):
            assert_same(outputs, want, f"seed {seed}, {count} instances, cuts {cuts}, input {i}")


def unbound(net: Net) -> tuple[Any, Any]:
    """Another instance of the same model that nothing is bound to, and its memory."""
    owner, memory = aligned(net.bytes)
    out = ffi.new("ek_instance **")
    config = ffi.new("ek_config *", {"kernels": 1})
    assert lib.ek_create(out, net.file.model, config, memory, net.bytes) == lib.EK_OK
    return out[0], owner


def test_an_error_concerns_one_input_alone(library: Library) -> None:
    rng = np.random.default_rng(6)
    data, ops = written(rng, 6)
    nets = [Net(data) for _ in range(5)]
    stream = [noise(nets[0], rng) for _ in nets]
    expected = [net.run(x) for net, x in zip(nets, stream, strict=True)]
    broken, owner = unbound(nets[2])
    instances = [broken if i == 2 else net.instance for i, net in enumerate(nets)]
    for cuts in ([0], [0, 1], [0, 2, ops - 1], list(range(ops))):
        with pipeline_of(library, nets[0].file.model, instances, cuts) as pipeline:
            for _ in range(3):
                for net in nets:
                    for array in net.outputs.values():
                        array[...] = 77
                assert [library.lib.ek_pipeline_push(pipeline) for _ in nets] == [lib.EK_OK] * 5
                statuses = [library.lib.ek_pipeline_pop(pipeline) for _ in nets]
                assert statuses == [lib.EK_ERROR_UNBOUND if i == 2 else lib.EK_OK for i in range(5)]
                for i in (0, 1, 3, 4):
                    assert_same(nets[i].outputs, expected[i], f"cuts {cuts}, input {i}")
    del owner


def test_a_pipeline_holds_as_many_inputs_as_instances(library: Library) -> None:
    rng = np.random.default_rng(7)
    data, _ = written(rng, 4)
    nets = [Net(data) for _ in range(3)]
    c = library.lib
    with pipeline_of(library, nets[0].file.model, [net.instance for net in nets], [0, 2]) as pipeline:
        for _ in range(4):
            assert c.ek_pipeline_pop(pipeline) == lib.EK_ERROR_ARGUMENT
            assert [c.ek_pipeline_push(pipeline) for _ in range(4)] == [lib.EK_OK] * 3 + [
                lib.EK_ERROR_ARGUMENT
            ]
            assert [c.ek_pipeline_pop(pipeline) for _ in range(4)] == [lib.EK_OK] * 3 + [
                lib.EK_ERROR_ARGUMENT
            ]
    assert (
        c.ek_pipeline_push(library.ffi.NULL) == c.ek_pipeline_pop(library.ffi.NULL) == lib.EK_ERROR_ARGUMENT
    )
    c.ek_pipeline_destroy(library.ffi.NULL)


def test_a_pipeline_ends_with_inputs_in_flight(library: Library) -> None:
    data, ops = written(np.random.default_rng(8), 6)
    nets = [Net(data) for _ in range(6)]
    for count in range(7):
        with pipeline_of(
            library, nets[0].file.model, [n.instance for n in nets], list(range(ops))
        ) as pipeline:
            for _ in range(count):
                assert library.lib.ek_pipeline_push(pipeline) == lib.EK_OK


def test_pipelines_that_cannot_be(library: Library) -> None:
    data, _ = written(np.random.default_rng(9), 4)
    a, b = Net(data), Net(data)
    null = library.ffi.NULL

    def create(model: Any, instances: Any, cuts: Any, count: int = 2, stages: int = 2) -> int:
        out = library.ffi.new("ek_pipeline **")
        status = library.lib.ek_pipeline_create(out, model, instances, count, cuts, stages)
        assert (out[0] == null) == (status != lib.EK_OK)
        library.lib.ek_pipeline_destroy(out[0])
        return int(status)

    model, both = a.file.model, [a.instance, b.instance]
    assert create(model, both, [0, 1]) == lib.EK_OK
    for wrong in (
        (null, both, [0, 1]), (model, null, [0, 1]), (model, both, null), (model, both, [1, 2]),
        (model, both, [0, 0]), (model, [a.instance, null], [0, 1]), (model, [a.instance, a.instance], [0, 1]),
        (model, both, [0, 1], 0, 2), (model, both, [0, 1], 2, 0),
    ):  # fmt: skip
        assert create(*wrong) == lib.EK_ERROR_ARGUMENT
    assert library.lib.ek_pipeline_create(null, model, both, 2, [0, 1], 2) == lib.EK_ERROR_ARGUMENT


def test_state_belongs_to_one_instance(library: Library) -> None:
    """Several would each have a part of it; one alone computes its inputs in turn."""
    data = COUNTER.read_bytes()
    nets = [Net(data) for _ in range(3)]
    assert lib.ek_state_bytes(nets[0].file.model) > 0
    assert lib.ek_state_bytes(Net(written(np.random.default_rng(1), 3)[0]).file.model) == 0
    assert lib.ek_state_bytes(ffi.NULL) == 0
    out = library.ffi.new("ek_pipeline **")
    instances = [net.instance for net in nets[:2]]
    status = library.lib.ek_pipeline_create(out, nets[0].file.model, instances, 2, [0, 1], 2)
    assert status == lib.EK_ERROR_ARGUMENT
    stream = [{name: np.full(a.shape, 5, np.int8) for name, a in nets[0].inputs.items()}] * 4
    expected = [nets[2].run(x) for x in stream]
    for got, want in zip(passed(library, nets[:1], [0, 1], stream), expected, strict=True):
        assert_same(got, want, "counter")


@pytest.mark.parametrize("stages", [2, 5])
def test_a_long_stream(library: Library, stages: int) -> None:
    """Many laps with stages that wait awake, asleep, and not at all."""
    rng = np.random.default_rng(10)
    data, ops = written(rng, 5)
    nets = [Net(data) for _ in range(3)]
    stream = [noise(nets[0], rng) for _ in range(7)] * 300
    expected = [nets[0].run(x) for x in stream[:7]]
    cuts = sorted({0, *rng.permutation(np.arange(1, ops))[: stages - 1].tolist()})
    for i, got in enumerate(passed(library, nets, cuts, stream)):
        assert_same(got, expected[i % 7], f"{stages} stages, input {i}")
