# SPDX-License-Identifier: Apache-2.0
"""The C interface through cffi gives what the pybind11 module gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.kernel_sets import kernel_sets
from edgekit.runtime import kernels
from edgekit.runtime.capi import ffi, lib


def aligned(size: int) -> np.ndarray:
    """`size` bytes at an address that is a multiple of EK_ALIGN."""
    block = np.zeros(size + lib.EK_ALIGN, np.uint8)
    start = -block.ctypes.data % lib.EK_ALIGN
    return block[start : start + size]


def pointer(array: np.ndarray):
    return ffi.cast("void *", array.ctypes.data)


class CModel:
    """A model and an instance over the C functions themselves."""

    def __init__(self, data: bytes, word: int = 0) -> None:
        self.file = aligned(len(data))
        self.file[:] = np.frombuffer(data, np.uint8)
        self.model = ffi.new("ek_model *")
        assert lib.ek_open(self.model, pointer(self.file), len(data), 0) == lib.EK_OK
        self.memory = aligned(lib.ek_memory_needed(self.model, word, 1))
        self.config = ffi.new("ek_config *", {"kernels": word})
        handle = ffi.new("ek_instance **")
        status = lib.ek_create(handle, self.model, self.config, pointer(self.memory), self.memory.size)
        assert status == lib.EK_OK
        self.instance = handle[0]


@pytest.fixture(scope="module")
def data(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    output = tmp_path_factory.mktemp("capi") / "digits.ekm"
    return edgekit.convert(
        digits / "digits.onnx", output, calibration=digits / "digits_calib.npz", input_layout="nhwc", input_std=16
    ).data


def test_the_same_bits_as_the_python_module(data: bytes, digits: Path) -> None:
    images = np.load(digits / "digits_test.npz")["x"][:10]
    expected = edgekit.load(data).run(images)["logits"]
    for name in kernels.available():
        net = CModel(data, kernels.mask(name))
        logits = np.zeros((1, 10), np.float32)
        assert lib.ek_bind_output(net.instance, 0, pointer(logits), logits.nbytes, lib.EK_FORMAT_FLOAT) == lib.EK_OK
        for image, wanted in zip(images, expected, strict=True):
            status = lib.ek_bind_input(net.instance, 0, pointer(image), image.nbytes, lib.EK_FORMAT_RAW)
            assert status == lib.EK_OK
            assert lib.ek_run(net.instance) == lib.EK_OK
            np.testing.assert_array_equal(logits[0], wanted)


def test_callers_mistakes_have_statuses(data: bytes) -> None:
    model, file = ffi.new("ek_model *"), aligned(len(data) + 1)
    assert lib.ek_open(ffi.NULL, pointer(file), len(data), 0) == lib.EK_ERROR_ARGUMENT
    assert lib.ek_open(model, ffi.NULL, len(data), 0) == lib.EK_ERROR_ARGUMENT
    assert lib.ek_open(model, pointer(file[1:]), len(data), 0) == lib.EK_ERROR_ALIGNMENT
    assert lib.ek_open(model, pointer(file), len(data), 0) == lib.EK_ERROR_MAGIC

    net = CModel(data)
    assert lib.ek_run(net.instance) == lib.EK_ERROR_UNBOUND
    x = np.zeros((1, 1, 8, 8), np.float32)
    assert lib.ek_bind_input(net.instance, 1, pointer(x), x.nbytes, lib.EK_FORMAT_FLOAT) == lib.EK_ERROR_ARGUMENT
    assert lib.ek_bind_input(net.instance, 0, pointer(x), x.nbytes - 4, lib.EK_FORMAT_FLOAT) == lib.EK_ERROR_SIZE
    assert lib.ek_bind_input(net.instance, 0, pointer(x), 64, lib.EK_FORMAT_INT8) == lib.EK_ERROR_ARGUMENT
    handle = ffi.new("ek_instance **")
    short = net.memory.size - 1
    status = lib.ek_create(handle, net.model, net.config, pointer(net.memory), short)
    assert status == lib.EK_ERROR_MEMORY


def test_every_status_has_a_line_of_text() -> None:
    statuses = [name for name in dir(lib) if name.startswith("EK_ERROR_")]
    assert len(statuses) >= 17
    texts = {ffi.string(lib.ek_status_string(getattr(lib, name))).decode() for name in statuses}
    assert len(texts) == len(statuses)
    assert all(text and "\n" not in text for text in texts)
    assert ffi.string(lib.ek_status_string(12345))


def test_kernel_set_names() -> None:
    names = {ffi.string(lib.ek_kernels_name(1 << bit)).decode() for bit in range(31) if lib.ek_kernels_name(1 << bit)}
    assert names == set(kernel_sets())
