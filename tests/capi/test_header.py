# SPDX-License-Identifier: Apache-2.0
"""The public headers alone, in C and C++, and what cffi makes of them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edgekit.runtime.capi import ffi, lib

COMPILERS = {
    "gcc": ["gcc", "-std=c11", "-x", "c"],
    "clang": ["clang", "-std=c11", "-x", "c"],
    "g++": ["g++", "-std=c++11", "-x", "c++"],
    "clang++": ["clang++", "-std=c++11", "-x", "c++"],
}

SIZES = {"ek_model": 56, "ek_config": 56, "ek_io_info": 88, "ek_op_event": 40}
"""Structs that cross the interface, on a 64-bit machine: a change breaks programs that were built before."""


@pytest.mark.parametrize("header", ["edgekit.h", "edgekit_cpu.h", "edgekit_threads.h"])
@pytest.mark.parametrize("compiler", COMPILERS)
def test_each_header_compiles_alone(compiler: str, header: str, root: Path) -> None:
    command = COMPILERS[compiler]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    flags = [
        "-Wall",
        "-Wextra",
        "-Wpedantic",
        "-Werror",
        "-fsyntax-only",
        "-I",
        str(root / "csrc" / "include"),
    ]
    source = f"#include <edgekit/{header}>\n"
    result = subprocess.run(
        [*command, *flags, "-"], input=source, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", SIZES)
def test_struct_sizes_stay(name: str) -> None:
    assert ffi.sizeof(name) == SIZES[name]


def test_every_status_has_a_text_of_its_own() -> None:
    values = [getattr(lib, name) for name in dir(lib) if name == "EK_OK" or name.startswith("EK_ERROR_")]
    texts = [ffi.string(lib.ek_status_string(value)).decode() for value in values]
    assert len(values) >= 18
    assert len(set(texts)) == len(texts)
    assert all(text and "\n" not in text for text in texts)
    assert ffi.string(lib.ek_status_string(99)) == b"unknown status"


def test_kernel_sets_have_names(root: Path) -> None:
    header = (root / "csrc" / "include" / "edgekit" / "edgekit.h").read_text()
    bits = [int(bit, 16) for bit in re.findall(r"#define EK_KERNELS_\w+\s+(0x[0-9A-Fa-f]+)u", header)]
    names = [ffi.string(lib.ek_kernels_name(bit)).decode() for bit in bits]
    assert len(set(names)) == len(bits) >= 10
    assert lib.ek_kernels_name(0x8) != ffi.NULL
    assert lib.ek_kernels_name(0x20000000) == ffi.NULL
    assert lib.ek_kernels_name(0x3) == ffi.NULL
    assert lib.ek_kernels_built() & lib.EK_KERNELS_SCALAR
