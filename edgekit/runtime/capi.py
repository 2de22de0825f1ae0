# SPDX-License-Identifier: Apache-2.0
"""The C interface as it is, through cffi.

The declarations are the text of `edgekit.h` itself, so they cannot drift from it. `ffi` and
`lib` give every function and type of the header:

    from edgekit.runtime.capi import ffi, lib
    model = ffi.new("ek_model *")
    status = lib.ek_open(model, address, size, 0)
"""

from __future__ import annotations

import re
from pathlib import Path

import cffi

from edgekit.errors import EdgekitError
from edgekit.sources import source_root

HEADER = Path("csrc/include/edgekit/edgekit.h")
LIBRARIES = ("libedgekit.so", "libedgekit.dylib", "edgekit.dll")


def declarations(header: str) -> str:
    """What of a C header cffi reads: declarations and numeric macros; no guards, comments or conditionals."""
    text = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    text = re.sub(r"#ifdef __cplusplus.*?#endif", "", text, flags=re.DOTALL)
    lines = []
    for line in text.splitlines():
        macro = re.match(r"#define\s+(EK_\w+)\s+(0x[0-9A-Fa-f]+|\d+)[uU]?\s*$", line)
        if macro:
            lines.append(f"#define {macro[1]} {macro[2]}")
        elif not line.lstrip().startswith("#"):
            lines.append(re.sub(r"\bEK_API\b\s*", "", line))
    return "\n".join(lines)


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
