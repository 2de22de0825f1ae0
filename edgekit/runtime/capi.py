# SPDX-License-Identifier: Apache-2.0
"""The C interface as it is, through cffi.

The declarations are the text of `edgekit.h` itself, so they cannot drift from it. `ffi` and
`lib` give every function and type of the header:

    from edgekit.runtime.capi import ffi, lib
    model = ffi.new("ek_model *")
    status = lib.ek_open(model, address, size, 0)
"""

from __future__ import annotations

from pathlib import Path

import cffi

from edgekit.errors import EdgekitError
from edgekit.runtime.header import declarations
from edgekit.sources import source_root

HEADER = Path("csrc/include/edgekit/edgekit.h")
LIBRARIES = ("libedgekit.so", "libedgekit.dylib", "edgekit.dll")


def library_path() -> Path:
    """The shared library that was built with this installation."""
    here = Path(__file__).resolve().parent
    for name in LIBRARIES:
        if (here / name).is_file():
            return here / name
    raise EdgekitError(f"no shared library of the runtime in {here}: run `pip install .` in the checkout")


ffi = cffi.FFI()
ffi.cdef(declarations((source_root() / HEADER).read_text(encoding="utf-8")))
lib = ffi.dlopen(str(library_path()))
