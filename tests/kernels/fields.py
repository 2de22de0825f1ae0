# SPDX-License-Identifier: Apache-2.0
"""The parameter structs of kernel.h as lists of 32-bit words, for a driver of any word size.

As a program, `python -m tests.kernels.fields kernel.h OUTPUT`, it writes the tables by which driver.c puts words into structs.
"""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cffi

from edgekit.runtime.header import declarations

NO_BUFFER = 0xFFFFFFFF


class Fields:
    """The leaves of every ek_*_params, in the order of their declarations."""

    def __init__(self, header: Path) -> None:
        ffi = cffi.FFI()
        ffi.cdef(declarations(header.read_text()))
        names = sorted(name for name in ffi.list_types()[0] if re.fullmatch(r"ek_\w+_params", name))
        self.structs = {name[3:-7]: list(_leaves(ffi.typeof(name))) for name in names}

    def words(self, name: str, values: dict[str, Any], pointers: dict[str, int]) -> bytes:
        """The words of one struct: its values, and for every pointer the number of a buffer."""
        out = []
        for path, kind, count in self.structs[name]:
            if kind == "pointer":
                out.append(struct.pack("<I", pointers.get(path, NO_BUFFER)))
                continue
            value = values
            for part in path.split("."):
                value = value.get(part, 0 if count == 1 else []) if isinstance(value, dict) else value
            numbers = list(value) if count > 1 else [value]
            numbers += [0] * (count - len(numbers))
            out.append(struct.pack(f"<{count}{'f' if kind == 'float' else 'i'}", *numbers))
        return b"".join(out)

    def header(self) -> str:
        """The C tables."""
        lines = ["/* SPDX-License-Identifier: Apache-2.0", " *", " * From kernel.h by tests/kernels/fields.py. */"]
        for name, leaves in self.structs.items():
            lines.append(f"static const struct field {name}_fields[] = {{")
            lines += [f"    {{offsetof(ek_{name}_params, {path}), {n}, {int(kind == 'pointer')}}}," for path, kind, n in leaves]
            lines.append("};")
        lines += ["union params {", *(f"    ek_{name}_params {name};" for name in self.structs), "};"]
        lines.append("static const struct params_type params_types[] = {")
        lines += [f"    {{{name}_fields, {len(leaves)}, sizeof(ek_{name}_params)}}," for name, leaves in self.structs.items()]
        return "\n".join([*lines, "};", ""])


def _leaves(ctype: Any, prefix: str = "") -> Iterator[tuple[str, str, int]]:
    """(path, `int`, `float` or `pointer`, number of elements) of every scalar, nested structs included."""
    for name, member in ctype.fields:
        kind, count, path = member.type, 1, prefix + name
        if kind.kind == "array":
            kind, count = kind.item, kind.length
        if kind.kind == "struct":
            yield from _leaves(kind, path + ".")
        elif kind.kind == "pointer":
            yield path, "pointer", 1
        elif kind.cname in ("int32_t", "int", "float"):
            yield path, "float" if kind.cname == "float" else "int", count
        else:
            raise TypeError(f"{path} is {kind.cname}: driver.c knows words and pointers")


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(Fields(Path(sys.argv[1])).header())
