# SPDX-License-Identifier: Apache-2.0
"""The DEBUG section: names of the model, its operators and its tensors.

Names of one model differ in a few characters, so each is stored as a difference to an earlier
one: how far back that is, how many leading and trailing bytes it shares, and the middle.
"""

from __future__ import annotations

from typing import Literal

from edgekit.errors import FormatError

_WINDOW = 127
"""How far back the writer looks; larger distances would take a second byte."""


def encode(names: list[str]) -> bytes:
    """`names`, in the order that docs/FORMAT.md gives for DEBUG, as bytes."""
    out = bytearray()
    seen: list[bytes] = [b""]
    for name in names:
        text = name.encode()
        _, back, head, tail = min(
            (len(text) - head - tail, back, head, tail)
            for back, old in enumerate(seen[: -_WINDOW - 1 : -1], 1)
            for head, tail in (_shared(text, old),)
        )
        middle = text[head : len(text) - tail]
        for number in (back, head, tail, len(middle)):
            out += _varint(number)
        out += middle
        seen.append(text)
    return bytes(out)


def decode(data: bytes, count: int) -> list[str]:
    """Inverse of `encode`; behind the names only zero bytes may follow.

    Raises:
        FormatError: a number or a name leaves the section or the names before it.
    """
    seen: list[bytes] = [b""]
    at = 0
    for _ in range(count):
        start = at
        numbers = []
        for _ in range(4):
            number, at = _read_varint(data, at)
            numbers.append(number)
        back, head, tail, length = numbers
        old = seen[-back] if 0 < back <= len(seen) else None
        if old is None or head + tail > len(old) or at + length > len(data):
            raise FormatError(f"DEBUG: damaged name at byte {start} of the section")
        seen.append(old[:head] + data[at : at + length] + old[len(old) - tail :])
        at += length
    if any(data[at:]):
        raise FormatError(f"DEBUG: {len(data) - at} bytes behind the last name")
    try:
        return [text.decode() for text in seen[1:]]
    except UnicodeDecodeError as error:
        raise FormatError("DEBUG: a name is not UTF-8") from error


def _shared(text: bytes, old: bytes) -> tuple[int, int]:
    """Leading and trailing bytes that both have, without overlap."""
    limit = min(len(text), len(old))
    head = limit - _different(text[:limit], old[:limit], "big")
    rest = limit - head
    return head, rest - _different(text[len(text) - rest :], old[len(old) - rest :], "little")


def _different(a: bytes, b: bytes, order: Literal["big", "little"]) -> int:
    """How many bytes are left where equal ones are taken away: from the front, or with `little` from the back."""
    return ((int.from_bytes(a, order) ^ int.from_bytes(b, order)).bit_length() + 7) // 8


def _varint(number: int) -> bytes:
    """LEB128: seven bits a byte, the lowest first, the high bit set on all but the last."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if at >= len(data) or shift > 28:
            raise FormatError(f"DEBUG: damaged number at byte {at} of the section")
        number |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return number, at
