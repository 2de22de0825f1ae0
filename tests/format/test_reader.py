# SPDX-License-Identifier: Apache-2.0
"""The Python reader refuses whatever is not a whole, sound file, and says where."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import FormatError
from edgekit.format import schema
from edgekit.format.reader import read
from edgekit.format.schema import Dtype, Encoding, Feature, Opcode, Region, Section
from edgekit.format.writer import Packing, write
from edgekit.program import Program


def repaired(data: bytearray) -> bytes:
    """`data` with checksums that match."""
    header = np.frombuffer(data, schema.HEADER.dtype, 1).copy()
    program_bytes = int(header["program_bytes"][0])
    header["weights_checksum"] = zlib.crc32(data[program_bytes:])
    header["program_checksum"] = 0
    data[: header.nbytes] = header.tobytes()
    header["program_checksum"] = zlib.crc32(data[:program_bytes])
    data[: header.nbytes] = header.tobytes()
    return bytes(data)


def records(data: bytearray, section: Section, struct: schema.Struct) -> np.ndarray:
    """The records of a section, to be changed in place."""
    offset, size = np.frombuffer(data, schema.HEADER.dtype, 1)[0]["section"].reshape(-1, 2)[section].tolist()
    return np.frombuffer(memoryview(data)[offset : offset + size], struct.dtype)


def parameters(data: bytearray, opcode: Opcode) -> np.ndarray:
    """The parameters of the first operator with `opcode`, to be changed in place."""
    offset = int(np.frombuffer(data, schema.HEADER.dtype, 1)[0]["section"][2 * Section.OPS])
    while True:
        head = np.frombuffer(data, schema.OP_HEADER.dtype, 1, offset)[0]
        if head["opcode"] == opcode:
            dtype = schema.OP_PARAMS[opcode].dtype
            return np.frombuffer(data, dtype, 1, offset + int(head["bytes"]) - dtype.itemsize)
        offset += int(head["bytes"])


def test_every_truncation_is_refused(small_file: bytes) -> None:
    for size in range(len(small_file)):
        with pytest.raises(FormatError):
            read(small_file[:size])


def test_every_bit_flip_is_refused(small_file: bytes) -> None:
    data = bytearray(small_file)
    for bit in range(8 * len(data)):
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            read(bytes(data))
        data[bit // 8] ^= 1 << bit % 8


def test_bytes_behind_the_file_are_refused(small_file: bytes) -> None:
    with pytest.raises(FormatError, match="file_bytes"):
        read(small_file + b"\0")


@pytest.mark.parametrize("packing", [Packing(sparse_below=0), Packing(sparse_below=2), Packing((4, 4), 0)])
def test_mutations_with_good_checksums_are_read_or_refused(
    small: Program, packing: Packing, rng: np.random.Generator
) -> None:
    """Whatever a file says, the reader ends with a program that can be written, or with a FormatError."""
    good, refused = write(small, packing=packing), 0
    for _ in range(200):
        data = bytearray(good)
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.integers(16, len(data)))
            data[at] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.integers(256), data[at] ^ 1 << rng.integers(8)]))
        try:
            write(read(repaired(data)))
        except FormatError:
            refused += 1
    assert refused > 40


def test_messages_name_file_and_field(tmp_path: Path, small_file: bytes) -> None:
    path = tmp_path / "net.ekm"
    path.write_bytes(b"\x7fELF" + small_file[4:])
    with pytest.raises(FormatError, match=r"net\.ekm: header: no \.ekm file"):
        read(path)
    with pytest.raises(FormatError, match=r"missing\.ekm: no such file"):
        read(tmp_path / "missing.ekm")
    with pytest.raises(FormatError, match="is a directory"):
        read(tmp_path)


def header(**fields: int) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        for name, value in fields.items():
            np.frombuffer(data, schema.HEADER.dtype, 1)[name] = value

    return change


def section(which: Section, offset: int, size: int) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        entry = np.frombuffer(data, schema.HEADER.dtype, 1)["section"][0][2 * which : 2 * which + 2]
        entry += np.array([offset, size]).astype(np.uint32)

    return change


def tensor(which: Region, /, **fields: int) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        found = records(data, Section.TENSORS, schema.TENSOR)
        record = found[np.flatnonzero(found["region"] == which)[0]]
        for name, value in fields.items():
            record[name] = value

    return change


def quant(**fields: float) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        for name, value in fields.items():
            records(data, Section.QUANTS, schema.QUANT)[0][name] = value

    return change


def unused_quant(data: bytearray) -> None:
    """A wrong record that no tensor refers to."""
    quants = records(data, Section.QUANTS, schema.QUANT)
    tensors = records(data, Section.TENSORS, schema.TENSOR)
    tensors["quant"][tensors["quant"] == len(quants) - 1] = 0
    quants[-1]["group"] = 2


def port(index: int, /, **fields: int) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        for name, value in fields.items():
            records(data, Section.IOS, schema.IO)[index][name] = value

    return change


def op(opcode: Opcode, /, **fields: float) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        for name, value in fields.items():
            parameters(data, opcode)[0][name] = value

    return change


def head(index: int, value: int) -> Callable[[bytearray], None]:
    """Byte `index` of the first operator record."""

    def change(data: bytearray) -> None:
        data[int(np.frombuffer(data, schema.HEADER.dtype, 1)[0]["section"][2 * Section.OPS]) + index] = value

    return change


REFUSED = [
    (header(version_major=2), "format version 2.0; this reader knows 1"),
    (header(required_features=Feature.STATE | Feature.SPARSE_WEIGHTS), "needs STATE,"),
    (header(required_features=1 << 40), "needs feature bit 40"),
    (header(required_features=0), "INTERLEAVED_WEIGHTS are used but not announced"),
    (header(reserved=1), "reserved"),
    (header(arena_bytes=2**31), "arena_bytes"),
    (header(arena_bytes=16), "leaves the arena"),
    (header(state_bytes=64), "state_bytes"),
    (section(Section.TENSORS, 4, 0), "section TENSORS at"),
    (section(Section.TENSORS, -64, 0), "section TENSORS at"),
    (section(Section.OPS, 0, 2**20), "section OPS at"),
    (section(Section.QUANTS, 0, 4), "section QUANTS has"),
    (section(Section.WEIGHTS, 0, 64), "section WEIGHTS at"),
    (section(Section.SUBPROGRAMS, 64, 0), "section SUBPROGRAMS is empty"),
    (section(Section.STRINGS, 0, -1), "is not in STRINGS"),
    (tensor(Region.ARENA, dtype=99), "tensor .*: dtype 99 is unknown"),
    (tensor(Region.ARENA, dtype=Dtype.I4), "bytes is"),
    (tensor(Region.ARENA, rank=7), "rank 7"),
    (tensor(Region.ARENA, dims=10**6), "dims 1000000"),
    (tensor(Region.ARENA, region=4), "region 4 is unknown"),
    (tensor(Region.ARENA, region=Region.STATE), "region STATE"),
    (tensor(Region.ARENA, encoding=Encoding.SPARSE, tile_k=3), "outside int8 constants"),
    (tensor(Region.ARENA, offset=8), "no multiple of 16"),
    (tensor(Region.ARENA, bytes=8), "bytes is 8"),
    (tensor(Region.ARENA, quant=77), "quant 77"),
    (tensor(Region.ARENA, quant=schema.NO_QUANT), "has no scale"),
    (tensor(Region.ARENA, first_op=3), "first_op"),
    (tensor(Region.ARENA, last_op=9), "last_op"),
    (tensor(Region.IO, offset=1), "is not the one of this port"),
    (tensor(Region.READONLY, encoding=Encoding.CODEBOOK), "CODEBOOK"),
    (tensor(Region.READONLY, encoding=Encoding.DENSE), "DENSE with tile_n"),
    (tensor(Region.READONLY, tile_n=3), "tile_n 3"),
    (tensor(Region.READONLY, tile_k=32), "tile_k 32"),
    (tensor(Region.READONLY, offset=32), "no multiple of 64"),
    (tensor(Region.READONLY, offset=2**20), "of WEIGHTS, which has"),
    (tensor(Region.READONLY, bytes=4), "4 bytes for interleaved"),
    (quant(scale=0.0), "scale 0.0 is not in"),
    (quant(scale=np.nan), "scale nan"),
    (quant(scale=np.inf), "scale inf"),
    (quant(scale=-1.0), "scale -1.0"),
    (quant(zero_point=128), "zero point 128"),
    (quant(granularity=1, scale=0.0, zero_point=0), "per axis or group"),
    (quant(granularity=1), "another granularity"),
    (quant(granularity=9), "quant 0 at byte .*: granularity 9 is unknown"),
    (unused_quant, "quant .* at byte .*: has fields of another granularity"),
    (quant(group=2), "another granularity"),
    (port(0, name=500), "name 500 is not in STRINGS"),
    (port(0, tensor=999), "tensor 999"),
    (port(0, output=2), "output 2"),
    (port(0, output=1), "at least one input"),
    (port(0, reserved=1), "out of range"),
    (head(0, 40), "bytes is 40"),
    (head(2, 99), "opcode 99 is not supported"),
    (head(2, Opcode.CALL), "opcode 20 is not supported"),
    (head(3, 2), "version 2"),
    (head(6, 1), "reserved 1"),
    (head(8, 99), r"tensors \[99"),
    (op(Opcode.QUANTIZE, perm=[0, 1, 2, 2, 0, 0]), "no permutation"),
    (op(Opcode.QUANTIZE, perm=[0, 1, 2, 3, 1, 0]), "behind the rank"),
    (op(Opcode.CONV2D, stride_h=0), "window out of range"),
    (op(Opcode.CONV2D, dilation_w=500), "larger than input and padding"),
    (op(Opcode.CONV2D, pad_left=1, pad_right=60000), "output is"),
    (op(Opcode.CONV2D, groups=0), "channels, weights for"),
    (op(Opcode.CONV2D, start=2), "start: offset 2 is no multiple of 4"),
    (op(Opcode.CONV2D, multiplier=2**31), "multiplier: bytes"),
    (op(Opcode.CONV2D, lo=5, hi=4), r"clamp \[5, 4\]"),
    (op(Opcode.CONV2D, hi=128), r"clamp \["),
    (op(Opcode.PRELU, multiplier=1.5), "multiplier is 1.5, the scales make"),
    (op(Opcode.SOFTMAX, inverse_scale=np.nan), "inverse_scale is nan"),
    (op(Opcode.SOFTMAX, table=0), r"table\[0\]|greatest"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_each_rule(small_file: bytes, change: Callable[[bytearray], None], message: str) -> None:
    data = bytearray(small_file)
    change(data)
    assert data != small_file
    with pytest.raises(FormatError, match=message) as caught:
        read(repaired(data))
    assert "\n" not in str(caught.value)


def test_the_undamaged_file_is_read(small_file: bytes) -> None:
    assert read(repaired(bytearray(small_file))).name == "small"


def test_multipliers_come_from_a_weight_scale(small_file: bytes) -> None:
    data = bytearray(small_file)
    offset = int(parameters(data, Opcode.CONV2D)[0]["multiplier"])
    base = int(np.frombuffer(data, schema.HEADER.dtype, 1)[0]["section"][2 * Section.WEIGHTS])
    data[base + offset : base + offset + 4] = np.float32(2.0**-126).tobytes()
    with pytest.raises(FormatError, match="multiplier"):
        read(repaired(data))
