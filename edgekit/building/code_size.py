# SPDX-License-Identifier: Apache-2.0
"""Code size of a static library of ELF objects, as `size` counts it, without a tool of the target."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

_ARCHIVE = b"!<arch>\n"
_MEMBER_HEADER = 60
_ALLOC, _WRITE = 2, 1
_NOBITS = 8


def text_bytes(library: Path) -> int | None:
    """Bytes that the objects of `library` take in read-only memory: code and constants; None where they
    are not ELF."""
    sizes = [_object_text(member) for member in _members(library.read_bytes())]
    known = [size for size in sizes if size is not None]
    return sum(known) if known else None


def _members(archive: bytes) -> Iterator[bytes]:
    """The files of an `ar` archive: a header of text before each, padded to even offsets."""
    if not archive.startswith(_ARCHIVE):
        return
    at = len(_ARCHIVE)
    while at + _MEMBER_HEADER <= len(archive):
        size = int(archive[at + 48 : at + 58])
        at += _MEMBER_HEADER
        yield archive[at : at + size]
        at += size + size % 2


def _object_text(data: bytes) -> int | None:
    """Bytes of an ELF object's sections that are loaded and not written; None where it is none."""
    if data[:4] != b"\x7fELF":
        return None
    wide, order = data[4] == 2, "<" if data[5] == 1 else ">"
    if wide:
        (table,) = struct.unpack_from(f"{order}Q", data, 40)
        entry, count = struct.unpack_from(f"{order}HH", data, 58)
        fields = f"{order}IIQQQQ"
    else:
        (table,) = struct.unpack_from(f"{order}I", data, 32)
        entry, count = struct.unpack_from(f"{order}HH", data, 46)
        fields = f"{order}IIIIII"
    total = 0
    for index in range(count):
        _, kind, flags, _, _, size = struct.unpack_from(fields, data, table + index * entry)
        if flags & _ALLOC and not flags & _WRITE and kind != _NOBITS:
            total += size
    return total
