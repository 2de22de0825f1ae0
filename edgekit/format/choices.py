# SPDX-License-Identifier: Apache-2.0
"""The section CHOICES: which kernels to take in place of others (docs/FORMAT.md, chapter Choices)."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable

import numpy as np

from edgekit.errors import FormatError, InputError
from edgekit.format import schema
from edgekit.format.schema import CHOICE, KERNEL_NAME_BYTES, SECTION_ALIGN, Section
from edgekit.program import Choice

_NAME = re.compile(rb"[a-z0-9_]+")


def encode(choices: Iterable[Choice]) -> bytes:
    """The section's bytes, in its order, whatever the order of `choices`.

    Raises:
        InputError: a name is no kernel's, or a kernel of an operator is to be replaced by two.
    """
    chosen: dict[tuple[int, bytes], bytes] = {}
    for choice in choices:
        key, kernel = (choice.op, _stored(choice.instead_of)), _stored(choice.kernel)
        if chosen.setdefault(key, kernel) != kernel:
            raise InputError(f"operator {choice.op}: two kernels in place of {choice.instead_of}")
    records = np.zeros(len(chosen), CHOICE.dtype)
    for record, (op, instead_of) in zip(records, sorted(chosen), strict=True):
        record["op"] = op
        record["instead_of"] = np.frombuffer(instead_of, np.uint8)
        record["kernel"] = np.frombuffer(chosen[op, instead_of], np.uint8)
    return records.tobytes()


def decode(data: bytes, ops: int) -> list[Choice]:
    """
    Args:
        data: the section.
        ops: the operators there are.

    Raises:
        FormatError: a record breaks a rule of the format.
    """
    if len(data) % CHOICE.dtype.itemsize:
        raise FormatError(f"section CHOICES has {len(data)} bytes, no multiple of {CHOICE.dtype.itemsize}")
    found: list[Choice] = []
    before: tuple[int, bytes] | None = None
    for number, record in enumerate(np.frombuffer(data, CHOICE.dtype)):
        where = f"choice {number}"
        key = int(record["op"]), record["instead_of"].tobytes()
        if key[0] >= ops or record["reserved"]:
            raise FormatError(f"{where}: operator {key[0]} of {ops}, reserved {record['reserved']}")
        if before is not None and before >= key:
            raise FormatError(f"{where}: stands behind one that it should stand in front of")
        found.append(Choice(key[0], _name(key[1], where), _name(record["kernel"].tobytes(), where)))
        before = key
    return found


def replace(data: bytes, choices: Iterable[Choice]) -> bytes:
    """The `.ekm` file `data`, which is sound, with these choices instead of its own; no other byte of its sections
    changes. Without choices it is the file that was never given any.

    Raises:
        InputError: as `encode`, or the file becomes too large.
    """
    header = np.frombuffer(data, schema.HEADER.dtype, 1).copy()[0]
    table = header["section"].reshape(-1, 2)
    ends = [int(table[section].sum()) for section in Section if section != Section.CHOICES]
    body = bytearray(data[: max(int(header["program_bytes"]), *ends)])
    table[Section.CHOICES] = 0, 0
    section = encode(choices)
    if section:
        body += bytes(-len(body) % SECTION_ALIGN)
        table[Section.CHOICES] = len(body), len(section)
        body += section
    if len(body) > schema.MAX_FILE_BYTES:
        raise InputError(f"{len(body)} bytes with the choices; a .ekm file holds 2^31 - 1")
    header["file_bytes"] = len(body)
    seal(body, header)
    return bytes(body)


def seal(body: bytearray, header: np.ndarray) -> None:
    """Puts the header in front of the file, with the checksums of what is there."""
    program_bytes = int(header["program_bytes"])
    header["program_checksum"] = 0
    header["weights_checksum"] = zlib.crc32(memoryview(body)[program_bytes:])
    body[: header.nbytes] = header.tobytes()
    header["program_checksum"] = zlib.crc32(memoryview(body)[:program_bytes])
    body[: header.nbytes] = header.tobytes()


def _stored(name: str) -> bytes:
    data = name.encode()
    if not _NAME.fullmatch(data) or len(data) > KERNEL_NAME_BYTES:
        raise InputError(f"{name!r}: not a kernel's name")
    return data.ljust(KERNEL_NAME_BYTES, b"\0")


def _name(stored: bytes, where: str) -> str:
    name = stored.rstrip(b"\0")
    if not _NAME.fullmatch(name):
        raise FormatError(f"{where}: {name!r} is no kernel's name")
    return name.decode()
