# SPDX-License-Identifier: Apache-2.0
"""C headers of the runtime as cffi reads them."""

from __future__ import annotations

import re


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


def numbers(header: str) -> dict[str, int]:
    """What a C header gives a number: enumerators with a value, and numeric macros."""
    text = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    enumerators = re.findall(r"^\s*(EK_\w+)\s*=\s*(0x[0-9A-Fa-f]+|\d+)", text, re.M)
    macros = re.findall(r"^#define\s+(EK_\w+)\s+(0x[0-9A-Fa-f]+|\d+)[uU]?\s*$", text, re.M)
    return {name: int(number, 0) for name, number in [*enumerators, *macros]}
