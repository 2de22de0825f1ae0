# SPDX-License-Identifier: Apache-2.0
"""Models through the public C interface, with memory of exactly the size that it asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import cffi
import numpy as np

from edgekit.runtime.capi import ffi, lib, library_path
from edgekit.runtime.header import declarations
from edgekit.sources import source_root

ALIGN = 64


def aligned(data: bytes | int, extra: int = 0) -> tuple[Any, Any]:
    """`data`, or so many zeros, at a multiple of 64 plus `extra`: the owner to keep, and the address."""
    size = data if isinstance(data, int) else len(data)
    owner = ffi.new("uint8_t[]", size + 2 * ALIGN)
    start = -int(ffi.cast("uintptr_t", owner)) % ALIGN + extra
    if not isinstance(data, int):
        ffi.memmove(owner + start, data, size)
    return owner, owner + start


def text(status: int) -> str:
    """A status as text."""
    return ffi.string(lib.ek_status_string(status)).decode()


class Library:
    """The parts of the interface outside edgekit.h, from the same shared library."""

    def __init__(self) -> None:
        self.ffi = cffi.FFI()
        self.ffi.include(ffi)
        include = source_root() / "csrc" / "include" / "edgekit"
        for name in ("edgekit_cpu.h", "edgekit_threads.h"):
            self.ffi.cdef(declarations((include / name).read_text()))
        self.lib = self.ffi.dlopen(str(library_path()))

    @contextmanager
    def pool(self, threads: int) -> Iterator[tuple[Any, Any]]:
        """An ek_parallel_for and its context."""
        pool = self.lib.ek_threads_create(threads)
        assert pool != self.ffi.NULL
        try:
            yield self.lib.ek_threads_parallel_for, pool
        finally:
            self.lib.ek_threads_destroy(pool)


class File:
    """A file's bytes in aligned memory, opened; `status` says with what success."""

    def __init__(self, data: bytes, flags: int = 0) -> None:
        self._owner, self.address = aligned(data)
        self.model = ffi.new("ek_model *")
        self.status = lib.ek_open(self.model, self.address, len(data), flags)

    @property
    def error_offset(self) -> int:
        return lib.ek_error_offset(self.model)


class Net:
    """An instance with buffers for its ports.

    Args:
        data: a file that must open.
        formats: input name -> EK_FORMAT_x where it is not the declared one.
        parallel_for: cffi function pointer; needed with more than one thread.
    """

    def __init__(
        self,
        data: bytes,
        kernels: int = 1,
        threads: int = 1,
        parallel_for: Any = None,
        context: Any = None,
        on_op: Any = None,
        formats: Mapping[str, int] | None = None,
    ) -> None:
        self.file = File(data)
        assert self.file.status == lib.EK_OK, f"{text(self.file.status)} at byte {self.file.error_offset}"
        self.bytes = lib.ek_memory_needed(self.file.model, kernels, threads)
        assert self.bytes > 0
        self._owner, memory = aligned(self.bytes)
        config = ffi.new("ek_config *", {"kernels": kernels, "threads": threads})
        if parallel_for is not None:
            config.parallel_for, config.parallel_context = parallel_for, context
        if on_op is not None:
            config.on_op = on_op
        out = ffi.new("ek_instance **")
        status = lib.ek_create(out, self.file.model, config, memory, self.bytes)
        assert status == lib.EK_OK, text(status)
        self.instance = out[0]
        self.inputs = self._ports(lib.ek_input_count, lib.ek_input_info, lib.ek_bind_input, formats or {})
        self.outputs = self._ports(lib.ek_output_count, lib.ek_output_info, lib.ek_bind_output, {})

    def _ports(
        self, count: Any, describe: Any, bind: Any, formats: Mapping[str, int]
    ) -> dict[str, np.ndarray]:
        arrays = {}
        for index in range(count(self.file.model)):
            info = ffi.new("ek_io_info *")
            assert describe(self.file.model, index, info) == lib.EK_OK
            name = ffi.string(info.name).decode()
            form = formats.get(name, info.format)
            raw = form == lib.EK_FORMAT_RAW
            dtype = {0: np.float32, 1: np.uint8 if info.raw_dtype == 2 else np.int8, 2: np.int8}[form]
            array = np.zeros(list(info.raw_dims if raw else info.dims)[: info.rank], dtype)
            status = bind(self.instance, index, ffi.cast("void *", array.ctypes.data), array.nbytes, form)
            assert status == lib.EK_OK, text(status)
            arrays[name] = array
        return arrays

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs for one set of inputs."""
        for name, array in self.inputs.items():
            array[...] = inputs[name]
        status = lib.ek_run(self.instance)
        assert status == lib.EK_OK, text(status)
        return {name: array.copy() for name, array in self.outputs.items()}
