# SPDX-License-Identifier: Apache-2.0
"""Wrong arguments get a status and change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.runtime.capi import ffi, lib
from tests.capi.net import File, Net, aligned

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"
NETWORK = (CORPUS / "valid" / "network.ekm").read_bytes()
"""float32 'input0' [1,2,8,7], also raw uint8; float32 output [1,5]."""
MOVES = (CORPUS / "valid" / "moves.ekm").read_bytes()
"""int8 input [1,4,5,3] and two int8 outputs."""


@pytest.fixture
def net() -> Net:
    return Net(NETWORK)


def address(array: np.ndarray) -> Any:
    return ffi.cast("void *", array.ctypes.data)


# ---- ek_open ---------------------------------------------------------------------------------------


def test_open_refuses_null_unknown_flags_and_misaligned_bytes() -> None:
    model = ffi.new("ek_model *")
    owner, data = aligned(NETWORK)
    assert lib.ek_open(ffi.NULL, data, len(NETWORK), 0) == lib.EK_ERROR_ARGUMENT
    assert lib.ek_open(model, ffi.NULL, 0, 0) == lib.EK_ERROR_ARGUMENT
    assert lib.ek_open(model, data, len(NETWORK), 2) == lib.EK_ERROR_ARGUMENT
    assert lib.ek_open(model, data, len(NETWORK), 0) == lib.EK_OK
    for extra in (1, 4, 32):
        owner, data = aligned(NETWORK, extra)
        assert lib.ek_open(model, data, len(NETWORK), 0) == lib.EK_ERROR_ALIGNMENT
    del owner


def test_bytes_behind_the_file_are_ignored() -> None:
    assert File(NETWORK + b"\xff" * 100).status == lib.EK_OK


def test_skipped_checksum_of_the_weights() -> None:
    """The last weight changes: refused, unless the checksum is skipped."""
    at = len(NETWORK) - 64
    damaged = NETWORK[:at] + bytes([NETWORK[at] ^ 1]) + NETWORK[at + 1 :]
    assert File(damaged).status == lib.EK_ERROR_CHECKSUM
    assert File(damaged, lib.EK_OPEN_SKIP_WEIGHTS_CHECKSUM).status == lib.EK_OK


def test_a_refused_model_gives_nothing() -> None:
    file = File(NETWORK[:-1])
    info, out, config = ffi.new("ek_io_info *"), ffi.new("ek_instance **"), ffi.new("ek_config *")
    owner, memory = aligned(1 << 20)
    assert lib.ek_input_count(file.model) == 0
    assert lib.ek_input_info(file.model, 0, info) == lib.EK_ERROR_ARGUMENT
    assert lib.ek_memory_needed(file.model, 1, 1) == 0
    assert lib.ek_scratch_needed(file.model, 1) == 0
    assert lib.ek_create(out, file.model, config, memory, 1 << 20) == lib.EK_ERROR_ARGUMENT
    del owner


def test_missing_features_are_named() -> None:
    file = File((CORPUS / "refuse" / "FEATURE-unknown_bit.ekm").read_bytes())
    assert file.status == lib.EK_ERROR_FEATURE
    assert lib.ek_missing_features(file.model) == 1 << 40


# ---- Ports -----------------------------------------------------------------------------------------


def test_ports_are_described(net: Net) -> None:
    info = ffi.new("ek_io_info *")
    assert (lib.ek_input_count(net.file.model), lib.ek_output_count(net.file.model)) == (1, 1)
    assert lib.ek_input_info(net.file.model, 0, info) == lib.EK_OK
    assert ffi.string(info.name) == b"input0"
    assert (info.rank, list(info.dims), info.elements) == (4, [1, 2, 8, 7, 0, 0], 112)
    assert (list(info.raw_dims), info.raw_dtype) == ([1, 8, 7, 2, 0, 0], 2)
    assert (info.format, info.scale, info.zero_point) == (lib.EK_FORMAT_FLOAT, np.float32(0.05), 3)
    assert lib.ek_output_info(net.file.model, 0, info) == lib.EK_OK
    assert (list(info.dims)[:2], info.raw_dtype, info.scale, info.zero_point) == ([1, 5], 0, 1 / 256, -128)


def test_ports_that_do_not_exist(net: Net) -> None:
    info = ffi.new("ek_io_info *")
    assert lib.ek_input_count(ffi.NULL) == lib.ek_output_count(ffi.NULL) == 0
    assert lib.ek_input_info(net.file.model, 1, info) == lib.EK_ERROR_ARGUMENT
    assert lib.ek_output_info(net.file.model, 1, info) == lib.EK_ERROR_ARGUMENT
    assert lib.ek_input_info(net.file.model, 0, ffi.NULL) == lib.EK_ERROR_ARGUMENT
    assert lib.ek_input_info(ffi.NULL, 0, info) == lib.EK_ERROR_ARGUMENT


def test_binding(net: Net) -> None:
    x = np.zeros(200, np.float32)
    bind = lib.ek_bind_input
    assert bind(ffi.NULL, 0, address(x), 448, lib.EK_FORMAT_FLOAT) == lib.EK_ERROR_ARGUMENT
    assert bind(net.instance, 1, address(x), 448, lib.EK_FORMAT_FLOAT) == lib.EK_ERROR_ARGUMENT
    assert bind(net.instance, 0, ffi.NULL, 448, lib.EK_FORMAT_FLOAT) == lib.EK_ERROR_ARGUMENT
    assert bind(net.instance, 0, address(x), 112, lib.EK_FORMAT_INT8) == lib.EK_ERROR_ARGUMENT
    assert bind(net.instance, 0, address(x), 448, 7) == lib.EK_ERROR_ARGUMENT
    for size in (447, 449, 112, 0):
        assert bind(net.instance, 0, address(x), size, lib.EK_FORMAT_FLOAT) == lib.EK_ERROR_SIZE
    assert bind(net.instance, 0, address(x), 448, lib.EK_FORMAT_RAW) == lib.EK_ERROR_SIZE
    odd = ffi.cast("void *", x.ctypes.data + 1)
    assert bind(net.instance, 0, odd, 448, lib.EK_FORMAT_FLOAT) == lib.EK_ERROR_ALIGNMENT
    assert bind(net.instance, 0, odd, 112, lib.EK_FORMAT_RAW) == lib.EK_OK
    assert lib.ek_bind_output(net.instance, 0, address(x), 20, lib.EK_FORMAT_RAW) == lib.EK_ERROR_ARGUMENT
    assert lib.ek_bind_output(net.instance, 1, address(x), 20, lib.EK_FORMAT_FLOAT) == lib.EK_ERROR_ARGUMENT


def test_outputs_share_memory_with_nothing() -> None:
    net = Net(MOVES)
    block = np.zeros(1000, np.int8)

    def bind(x: int, y: int, z: int) -> int:
        places = (ffi.cast("void *", block.ctypes.data + at) for at in (x, y, z))
        sizes = [a.nbytes for a in (*net.inputs.values(), *net.outputs.values())]
        assert lib.ek_bind_input(net.instance, 0, next(places), sizes[0], lib.EK_FORMAT_INT8) == lib.EK_OK
        for i in (0, 1):
            status = lib.ek_bind_output(net.instance, i, next(places), sizes[1 + i], lib.EK_FORMAT_INT8)
            assert status == lib.EK_OK
        return lib.ek_run(net.instance)

    assert bind(0, 100, 400) == lib.EK_OK
    assert bind(0, 59, 400) == lib.EK_ERROR_ARGUMENT
    assert bind(0, 100, 100 + 143) == lib.EK_ERROR_ARGUMENT
    assert bind(0, 100, 100 + 144) == lib.EK_OK


# ---- ek_create and ek_run --------------------------------------------------------------------------


def create(file: File, memory: Any, size: int, **config: Any) -> tuple[int, Any]:
    out = ffi.new("ek_instance **")
    return lib.ek_create(out, file.model, ffi.new("ek_config *", config), memory, size), out[0]


def test_create(net: Net) -> None:
    file, need = net.file, net.bytes
    owner, memory = aligned(need)
    out = ffi.new("ek_instance **")
    config = ffi.new("ek_config *")
    assert lib.ek_create(ffi.NULL, file.model, config, memory, need) == lib.EK_ERROR_ARGUMENT
    assert lib.ek_create(out, ffi.NULL, config, memory, need) == lib.EK_ERROR_ARGUMENT
    assert lib.ek_create(out, file.model, ffi.NULL, memory, need) == lib.EK_ERROR_ARGUMENT
    assert lib.ek_create(out, file.model, config, ffi.NULL, need) == lib.EK_ERROR_ARGUMENT
    assert create(file, memory + 8, need)[0] == lib.EK_ERROR_ALIGNMENT
    assert create(file, memory, need - 1) == (lib.EK_ERROR_MEMORY, ffi.NULL)
    assert create(file, memory, need, threads=2)[0] == lib.EK_ERROR_ARGUMENT
    assert create(file, memory, need, kernels=0x20000000)[0] == lib.EK_ERROR_KERNELS
    status, instance = create(file, memory, need)
    assert status == lib.EK_OK
    assert lib.ek_run(instance) == lib.EK_ERROR_UNBOUND
    assert lib.ek_run(ffi.NULL) == lib.EK_ERROR_ARGUMENT
    lib.ek_reset(ffi.NULL)
    del owner


def test_memory_that_cannot_be_had(net: Net) -> None:
    assert lib.ek_memory_needed(ffi.NULL, 1, 1) == 0
    assert lib.ek_memory_needed(net.file.model, 0x20000000, 1) == 0
    assert lib.ek_memory_needed(net.file.model, 0, 0) == net.bytes
    scratch = lib.ek_scratch_needed(net.file.model, 1)
    two, three = (lib.ek_memory_needed(net.file.model, 1, threads) for threads in (2, 3))
    assert three == two + scratch
    assert two >= net.bytes + scratch, "steps for more than one thread also say how they are cut"


@ffi.callback("ek_parallel_for")
def in_turn(_: Any, task: Any, argument: Any, count: int) -> None:
    for index in range(count):
        task(argument, index, index % lib.EK_MAX_THREADS)


def test_as_many_threads_as_there_may_be(net: Net) -> None:
    model, most = net.file.model, lib.EK_MAX_THREADS
    per_thread = lib.ek_scratch_needed(model, 1)
    assert lib.ek_memory_needed(model, 1, most) == lib.ek_memory_needed(model, 1, 2) + (most - 2) * per_thread
    x = {"input0": np.random.default_rng(5).normal(0, 3, (1, 2, 8, 7)).astype(np.float32)}
    (name,) = net.outputs
    many = Net(NETWORK, threads=most, parallel_for=in_turn, context=ffi.NULL)
    np.testing.assert_array_equal(many.run(x)[name], net.run(x)[name])


@pytest.mark.parametrize("threads", [lib.EK_MAX_THREADS + 1, 1 << 29, 1 << 30, (1 << 32) - 1])
def test_too_many_threads(net: Net, threads: int) -> None:
    """Refused before anything is computed from the number."""
    assert lib.ek_memory_needed(net.file.model, 1, threads) == 0
    owner, memory = aligned(net.bytes)
    made = create(net.file, memory, net.bytes, threads=threads, parallel_for=in_turn)
    assert made == (lib.EK_ERROR_ARGUMENT, ffi.NULL)
    del owner


def test_rebinding_between_runs(net: Net) -> None:
    """Raw and float data take turns on one instance."""
    rng = np.random.default_rng(5)
    x = rng.normal(0, 3, (1, 2, 8, 7)).astype(np.float32)
    raw = rng.integers(0, 256, (1, 8, 7, 2)).astype(np.uint8)
    y = net.run({"input0": x})["output0" if "output0" in net.outputs else next(iter(net.outputs))]
    other = Net(NETWORK, formats={"input0": lib.EK_FORMAT_RAW}).run({"input0": raw})
    (name,) = net.outputs
    for _ in range(2):
        assert lib.ek_bind_input(net.instance, 0, address(raw), raw.nbytes, lib.EK_FORMAT_RAW) == lib.EK_OK
        assert lib.ek_run(net.instance) == lib.EK_OK
        np.testing.assert_array_equal(net.outputs[name], other[name])
        assert lib.ek_bind_input(net.instance, 0, address(x), x.nbytes, lib.EK_FORMAT_FLOAT) == lib.EK_OK
        assert lib.ek_run(net.instance) == lib.EK_OK
        np.testing.assert_array_equal(net.outputs[name], y)


def test_state_is_kept_and_reset() -> None:
    net = Net((CORPUS / "valid" / "counter.ekm").read_bytes())
    x = {name: np.full(a.shape, 5, np.int8) for name, a in net.inputs.items()}
    first = [net.run(x) for _ in range(4)]
    lib.ek_reset(net.instance)
    again = [net.run(x) for _ in range(4)]
    (name,) = net.outputs
    assert any((first[0][name] != run[name]).any() for run in first[1:])
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a[name], b[name])


def test_each_operator_is_told_before_and_after() -> None:
    events = []

    @ffi.callback("ek_on_op")
    def on_op(_: Any, event: Any) -> None:
        events.append(
            (event.op, event.tensor, event.opcode, event.done, ffi.string(event.kernel), event.bytes)
        )

    net = Net(NETWORK, on_op=on_op)
    net.run({"input0": np.zeros((1, 2, 8, 7), np.float32)})
    assert [e[0] for e in events] == [op for op in range(10) for _ in range(2)]
    assert [e[3] for e in events] == [0, 1] * 10
    assert events[0][4] == b"quantize_scalar"
    assert events[0][5] == 112
    raw = Net(NETWORK, on_op=on_op, formats={"input0": lib.EK_FORMAT_RAW})
    events.clear()
    raw.run({"input0": np.zeros((1, 8, 7, 2), np.uint8)})
    assert [e[4] for e in events[:2]] == [b"raw_scalar"] * 2
