# SPDX-License-Identifier: Apache-2.0
"""Takes a `.ekm` file apart into records, to be changed in ways that the writer never would."""

from __future__ import annotations

import zlib

import numpy as np

from edgekit.format import schema
from edgekit.format.schema import OP_PARAMS, Opcode, Section

_PARAMS = {int(code): struct for code, struct in OP_PARAMS.items()}


class Op:
    """One operator record: `head` and `params` are NumPy records, `tensors` a list of indexes."""

    def __init__(self, data: bytes) -> None:
        self.head = np.frombuffer(data, schema.OP_HEADER.dtype, 1).copy()[0]
        count = int(self.head["n_inputs"]) + int(self.head["n_outputs"])
        at = schema.OP_HEADER.dtype.itemsize
        self.tensors = np.frombuffer(data, "<u2", count, at).tolist()
        at += (2 * count + 3) // 4 * 4
        struct = _PARAMS[int(self.head["opcode"])]
        self.params = np.frombuffer(data, struct.dtype, 1, at).copy()[0] if struct.fields else None

    @property
    def opcode(self) -> Opcode:
        return Opcode(int(self.head["opcode"]))

    def bytes(self) -> bytes:
        tensors = np.array(self.tensors, "<u2").tobytes()
        tensors += bytes(-len(tensors) % 4)
        return self.head.tobytes() + tensors + (b"" if self.params is None else self.params.tobytes())


class Edit:
    """The parts of a file; `file()` puts them together again, with sound offsets and checksums.

    Attributes:
        header: NumPy record; section table, sizes and checksums are set by `file()`.
        tensors, quants, ios: NumPy record arrays.
        dims: uint32 array.
        ops: list of `Op`.
        sections: the bytes of all other sections.
    """

    def __init__(self, data: bytes) -> None:
        self.header = np.frombuffer(data, schema.HEADER.dtype, 1).copy()[0]
        table = self.header["section"].reshape(-1, 2).tolist()
        self.sections = {s: bytearray(data[table[s][0] :][: table[s][1]]) for s in Section}
        self.tensors = self._records(Section.TENSORS, schema.TENSOR.dtype)
        self.quants = self._records(Section.QUANTS, schema.QUANT.dtype)
        self.ios = self._records(Section.IOS, schema.IO.dtype)
        self.dims = self._records(Section.DIMS, np.dtype("<u4"))
        self.ops = self._ops()

    def _records(self, section: Section, dtype: np.dtype) -> np.ndarray:
        return np.frombuffer(bytes(self.sections[section]), dtype).copy()

    def _ops(self) -> list[Op]:
        data, ops, at = bytes(self.sections[Section.OPS]), [], 0
        while at < len(data):
            size = int(np.frombuffer(data, "<u2", 1, at)[0])
            ops.append(Op(data[at : at + size]))
            at += size
        return ops

    def op(self, opcode: Opcode) -> Op:
        """The first operator of an opcode."""
        return next(op for op in self.ops if op.opcode == opcode)

    def tensor(self, op: Op, position: int) -> np.void:
        """The record of an operator's tensor; -1 is the output."""
        return self.tensors[op.tensors[position] : op.tensors[position] + 1][0]

    def shape(self, tensor: np.void) -> np.ndarray:
        """A view of a tensor's dimensions."""
        return self.dims[int(tensor["dims"]) :][: int(tensor["rank"])]

    def weights(self, offset: int, dtype: str, count: int) -> np.ndarray:
        """A view of an array in WEIGHTS."""
        return np.frombuffer(self.sections[Section.WEIGHTS], dtype, count, int(offset))

    def file(self) -> bytes:
        parts = {s: bytes(data) for s, data in self.sections.items()}
        parts[Section.TENSORS] = self.tensors.tobytes()
        parts[Section.QUANTS] = self.quants.tobytes()
        parts[Section.IOS] = self.ios.tobytes()
        parts[Section.DIMS] = self.dims.tobytes()
        parts[Section.OPS] = b"".join(op.bytes() for op in self.ops)
        body, table = bytearray(self.header.nbytes), np.zeros((schema.SECTION_SLOTS, 2), "<u4")
        for section in Section:
            if parts[section] or section <= Section.STATE:
                body += bytes(-len(body) % schema.SECTION_ALIGN)
            if section == Section.WEIGHTS:
                self.header["program_bytes"] = len(body)
            if parts[section]:
                table[section] = len(body), len(parts[section])
                body += parts[section]
        self.header["file_bytes"] = len(body)
        self.header["section"] = table.reshape(-1)
        body[: self.header.nbytes] = self.header.tobytes()
        return repair(bytes(body))


def repair(data: bytes) -> bytes:
    """`data` with checksums that match."""
    header = np.frombuffer(data, schema.HEADER.dtype, 1).copy()[0]
    program = int(header["program_bytes"])
    header["program_checksum"] = 0
    header["weights_checksum"] = zlib.crc32(data[program : int(header["file_bytes"])])
    body = header.tobytes() + data[header.nbytes :]
    header["program_checksum"] = zlib.crc32(body[:program])
    return header.tobytes() + data[header.nbytes :]
