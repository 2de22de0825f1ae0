# SPDX-License-Identifier: Apache-2.0
"""The parts of the C runtime that one model needs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edgekit.format.summary import summarize
from edgekit.kernel_sets import listed_kernels
from edgekit.program import Accumulate, Program, Quantize
from edgekit.serving import Prepared
from edgekit.sources import source_root

_CORE_WITHOUT_OPERATORS = re.compile(r"(?!op_)\w+\.c")
_INCLUDE = re.compile(r'^\s*#include "([^"]+)"', re.M)


def runtime_sources(program: Program, kernels: Iterable[str]) -> list[Path]:
    """The C files below csrc/ to compile for the operators of a model and the kernels that compute it.

    Args:
        kernels: as `Prepared.kernels`.
    """
    csrc = source_root() / "csrc"
    sources = [path for path in sorted((csrc / "core").glob("*.c")) if _CORE_WITHOUT_OPERATORS.fullmatch(path.name)]
    sources += _defining(csrc / "core", (f"ek_check_{name.lower()}" for name in _operators(program)))
    sources += [csrc / "kernels" / "kernel_list.c"]
    return sources + _defining(csrc / "kernels", (f"ek_{name}" for name in _names(kernels)))


def with_headers(sources: Iterable[Path]) -> list[Path]:
    """The files and all that they include, directly or not; system headers aside."""
    csrc = source_root() / "csrc"
    waiting = list(sources)
    known = dict.fromkeys(waiting)
    while waiting:
        path = waiting.pop()
        for name in _INCLUDE.findall(path.read_text(encoding="utf-8")):
            places = (path.parent, csrc / "include", csrc)
            found = next((p for place in places if (p := (place / name).resolve()).is_file()), None)
            if found is not None and found not in known:
                known[found] = None
                waiting.append(found)
    return list(known)


def restrict_lists(folder: Path, program: Program, kernels: Iterable[str]) -> None:
    """Leaves in the lists of a copied runtime the operators of a model and the kernels that compute it."""
    _subset(folder / "core" / "operators.def", r"EK_OPERATOR\((\w+),", _operators(program))
    _subset(folder / "kernels" / "kernels.def", r"EK_KERNEL\(\w+, \w+, (\w+),", _names(kernels))


def _operators(program: Program) -> list[str]:
    return sorted({op.opcode.name for op in program.ops})


def _names(kernels: Iterable[str]) -> list[str]:
    return sorted(set(kernels) - {""})


def _defining(folder: Path, functions: Iterable[str]) -> list[Path]:
    """The files below `folder` that define these functions, each once."""
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.c"))}
    found: dict[Path, None] = {}
    for name in functions:
        definition = re.compile(rf"^\w[\w ]*\b{name}\([^;{{]*\)\s*\{{", re.M)
        instance = re.compile(rf"\b{name.removeprefix('ek_')}\b")
        path = next((p for p, text in texts.items() if definition.search(text)), None)
        path = path or next(p for p, text in texts.items() if p.stem in name and instance.search(text))
        found[path] = None
    return list(found)


def _subset(path: Path, line: str, names: list[str]) -> None:
    """Leaves of a list its comment and the lines of these names; conditions are met by the choice."""
    text = path.read_text(encoding="utf-8")
    comment = text[: text.index("*/") + 2]
    entries = [row for row in text.splitlines() if (match := re.match(line, row)) and match[1] in names]
    path.write_text("\n".join([comment, *entries, ""]), encoding="utf-8")


def restrict_build(folder: Path, program: Program, data: bytes, prepared: Prepared) -> None:
    """Switches off in core/build.h what the model does without. A microcontroller has one thread, no kernel for
    it offsets its input, and its files have no choices.

    Args:
        data: the file of `program`.
        prepared: what the runtime says of it on the target.
    """
    summary = summarize(data)
    encodings = ("INTERLEAVED", "SPARSE", "PAIRED")
    absent = ["THREADS", "OFFSETS", "CHOICES", *(name for name in encodings if f"{name}_WEIGHTS" not in summary["features"])]
    if not _decodes(program, prepared, summary["tensors"]):
        absent.append("DECODING")
    if not any(isinstance(op, Quantize) and op.raw_dtype is not None for op in program.ops):
        absent.append("RAW")
    path = folder / "core" / "build.h"
    text = path.read_text(encoding="utf-8")
    for name in absent:
        text, changed = re.subn(rf"^(#define EK_BUILD_{name}) 1$", r"\1 0", text, flags=re.M)
        assert changed == 1, name
    path.write_text(text, encoding="utf-8")


def _decodes(program: Program, prepared: Prepared, tensors: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a kernel wants weights in another form than the file's."""
    stored = {t["name"]: (t["tile"][0], -t["tile"][1] if t["encoding"] == "paired" else t["tile"][1]) for t in tensors}
    sparse = {t["name"] for t in tensors if t["encoding"] == "sparse"}
    wanted = {kernel.name: kernel.tile for kernel in listed_kernels()}
    for index, kernel in zip(prepared.ops, prepared.kernels, strict=True):
        op = program.ops[index]
        if not isinstance(op, Accumulate):
            continue
        weights = op.inputs[1]
        if weights in sparse or stored[weights] != wanted[kernel] or getattr(op, "groups", 1) != 1:
            return True
    return False
