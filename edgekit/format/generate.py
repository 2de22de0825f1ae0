# SPDX-License-Identifier: Apache-2.0
"""Writes what repeats `schema.py`: the C header and the tables of docs/FORMAT.md.

Run from a checkout: `python -m edgekit.format.generate`; `--check` only compares.
"""

from __future__ import annotations

import re
import sys
from enum import IntEnum
from pathlib import Path

from edgekit.format import schema

ROOT = Path(__file__).resolve().parents[2]
HEADER_PATH = ROOT / "csrc" / "core" / "format.h"
SPEC_PATH = ROOT / "docs" / "FORMAT.md"

_STRUCTS = (
    schema.HEADER, schema.TENSOR, schema.QUANT, schema.SPARSE_TILE, schema.SUBPROGRAM, schema.IO, schema.CHOICE,
    schema.OP_HEADER,
    *(s for s in schema.OP_PARAMS.values() if s.fields),
)  # fmt: skip
_ENUMS = (schema.Section, schema.Dtype, schema.Region, schema.Encoding, schema.Granularity,
          schema.RawLayout, schema.Opcode)  # fmt: skip


def _screaming(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper()


def c_header() -> str:
    """The text of csrc/core/format.h."""
    out = [
        "/* SPDX-License-Identifier: Apache-2.0",
        " *",
        " * Layout of .ekm files. Made by `python -m edgekit.format.generate` from",
        " * edgekit/format/schema.py; docs/FORMAT.md explains it. Do not edit.",
        " */",
        "#ifndef EK_FORMAT_H",
        "#define EK_FORMAT_H",
        "",
        "#include <stdint.h>",
        "",
        "#define EK_FORMAT_MAGIC {" + ", ".join(f"0x{b:02X}" for b in schema.MAGIC) + "}",
        f"#define EK_FORMAT_VERSION_MAJOR {schema.VERSION_MAJOR}",
        f"#define EK_FORMAT_VERSION_MINOR {schema.VERSION_MINOR}",
        f"#define EK_SECTION_ALIGN {schema.SECTION_ALIGN}u",
        f"#define EK_ARENA_ALIGN {schema.ARENA_ALIGN}u",
        *(f"#define EK_WEIGHTS_ALIGN_{e.name} {align}u" for e, align in schema.WEIGHTS_ALIGN.items()),
        f"#define EK_PAIRED_TILE {schema.PAIRED_TILE}",
        f"#define EK_SECTION_SLOTS {schema.SECTION_SLOTS}",
        f"#define EK_NO_INDEX 0x{schema.NO_INDEX:08X}u",
        f"#define EK_NO_QUANT 0x{schema.NO_QUANT:04X}u",
        f"#define EK_SCALE_MIN {schema.SCALE_MIN.hex()}f",
        f"#define EK_SCALE_MAX {schema.SCALE_MAX.hex()}f",
        "",
        "/* Limits; docs/FORMAT.md says of what. */",
        *(f"#define EK_FORMAT_{name} {getattr(schema, name)}u" for name in schema.LIMITS),
        "",
    ]
    for enum in _ENUMS:
        out += [f"#define EK_{_screaming(enum.__name__)}_{m.name} {m.value}" for m in enum]
        out.append("")
    out += [f"#define EK_FEATURE_{m.name} 0x{m.value:X}u" for m in schema.Feature]
    out += ["", "/* Least and most inputs; bit i: the output may take over the memory of input i exactly. */"]
    for opcode, operands in schema.OPERANDS.items():
        inplace = sum(1 << i for i in operands.inplace)
        out.append(f"#define EK_OPERANDS_{opcode.name} {operands.least}, {operands.most}, {inplace}")
    out.append("")
    for struct in _STRUCTS:
        out += [*_c_struct(struct), ""]
    out.append("#endif /* EK_FORMAT_H */")
    return "\n".join(out) + "\n"


def _c_struct(struct: schema.Struct) -> list[str]:
    """The lines that define a record."""
    out = [f"/* {struct.doc} */", f"typedef struct ek_{struct.name} {{"]
    for f in struct.fields:
        ctype = f.ctype if f.ctype == "float" else f.ctype + "_t"
        array = f"[{f.count}]" if f.count else ""
        out.append(f"    {ctype} {f.name}{array}; /* {f.doc} */")
    out.append(f"}} ek_{struct.name};")
    out.append(f'_Static_assert(sizeof(ek_{struct.name}) == {struct.dtype.itemsize}, "ek_{struct.name}");')
    return out


def _table(struct: schema.Struct) -> str:
    if not struct.fields:
        return f"{struct.doc} It has no parameters."
    rows = ["| offset | type | name | meaning |", "| ---: | --- | --- | --- |"]
    for f in struct.fields:
        offset = struct.offset(f.name)
        array = f"[{f.count}]" if f.count else ""
        rows.append(f"| {offset} | {f.ctype}{array} | `{f.name}` | {f.doc} |")
    return "\n".join([struct.doc, "", *rows, "", f"{struct.dtype.itemsize} bytes."])


def _values(enum: type[IntEnum] | type[schema.Feature]) -> str:
    return "\n".join(["| value | name |", "| ---: | --- |", *(f"| {m.value} | {m.name} |" for m in enum)])


def _limits() -> str:
    rows = ["| limit | value |", "| --- | ---: |"]
    rows += [f"| {what} | {getattr(schema, name):,} |" for name, what in schema.LIMITS.items()]
    return "\n".join(rows)


def spec_text(text: str) -> str:
    """`text` of docs/FORMAT.md with every generated block refreshed.

    A block stands between `<!-- struct NAME -->`, `<!-- enum NAME -->` or `<!-- limits -->` and
    `<!-- end -->`.
    """
    blocks = {f"struct {s.name}": _table(s) for s in (*_STRUCTS, *schema.OP_PARAMS.values())}
    blocks["limits"] = _limits()
    blocks |= {f"enum {e.__name__}": _values(e) for e in _ENUMS} | {"enum Feature": _values(schema.Feature)}

    def fill(match: re.Match[str]) -> str:
        return f"<!-- {match[1]} -->\n{blocks[match[1]]}\n<!-- end -->"

    return re.sub(r"<!-- ((?:struct|enum) \w+|limits) -->\n.*?<!-- end -->", fill, text, flags=re.DOTALL)


def main() -> int:
    stale = 0
    for path, text in (
        (HEADER_PATH, c_header()),
        (SPEC_PATH, spec_text(SPEC_PATH.read_text()) if SPEC_PATH.exists() else None),
    ):
        if text is None or (path.exists() and path.read_text() == text):
            continue
        stale += 1
        if "--check" in sys.argv[1:]:
            print(f"{path.relative_to(ROOT)} is stale: run python -m edgekit.format.generate")
        else:
            path.write_text(text)
            print(f"wrote {path.relative_to(ROOT)}")
    return 1 if stale and "--check" in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
