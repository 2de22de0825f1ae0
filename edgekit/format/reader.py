# SPDX-License-Identifier: Apache-2.0
"""`.ekm` -> Program, written from docs/FORMAT.md and checking everything that it asks of a reader.

The file stores what a runtime needs, so a few facts come back by inference: a bias from `start`, weight
scales and slopes from the multipliers that they lead to. The returned program computes the same bits;
writing it again gives the same file.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Callable
from enum import IntEnum
from typing import Any, TypeVar

import numpy as np

from edgekit.errors import FormatError, InputError
from edgekit.files import read_file, unconverted
from edgekit.format import choices, names, packing, schema
from edgekit.format.rules import check_program, check_scale, check_scales
from edgekit.format.schema import (
    Dtype,
    Encoding,
    Feature,
    Granularity,
    Opcode,
    RawLayout,
    Region,
    Section,
    Struct,
)
from edgekit.program import (
    OP_CLASSES,
    Op,
    Program,
    Quant,
    Tensor,
    inverse_scale,
    lifetimes,
    prelu_multipliers,
    product_multiplier,
    sum_multipliers,
    tensor_bytes,
    weight_sums,
)

_E = TypeVar("_E", bound=IntEnum)

SUPPORTED = Feature.INTERLEAVED_WEIGHTS | Feature.SPARSE_WEIGHTS | Feature.PAIRED_WEIGHTS
"""What this reader can run; the C runtime of the same version runs STATE, too."""


def read(source: bytes | bytearray | memoryview | str | os.PathLike[str]) -> Program:
    """The program in a file, or in its bytes.

    Raises:
        FormatError: the file cannot be read, is damaged, breaks a rule, or needs a feature that this
            version lacks; the message names the field or record and its offset.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _read(bytes(source))
    data = file_bytes(source)
    try:
        return _read(data)
    except FormatError as error:
        raise FormatError(f"{source}: {error}{unconverted(source)}") from None


def file_bytes(path: str | os.PathLike[str]) -> bytes:
    """The content of a `.ekm` file.

    Raises:
        FormatError: it is missing, no file, or larger than the format allows.
    """
    try:
        return read_file(path, schema.MAX_FILE_BYTES, ".ekm file")
    except InputError as error:
        raise FormatError(str(error)) from error


def _read(data: bytes) -> Program:
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        return _Reader(data).program()


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.header = read_header(data)
        self.sections = _sections(data, self.header)
        self.tensors: list[Tensor] = []
        self.records: np.ndarray
        self.at = 0
        self.redundant: list[tuple[str, Any, Op, Callable[..., np.float32]]] = []

    def program(self) -> Program:
        """Everything, in the order of dependence: records, ports, operators, names, rules."""
        if self.sections[Section.SUBPROGRAMS].any():
            raise FormatError("header: section SUBPROGRAMS without the feature SUBPROGRAMS")
        self._read_tensors()
        program = Program("", arena_bytes=int(self.header["arena_bytes"]))
        self._read_ports(program)
        # Constants become arrays once operators have told which of them are weights.
        operators = self._op_records()
        self._read_constants(operators)
        self._name(operators)
        program.tensors = {t.name: t for t in self.tensors}
        if len(program.tensors) != len(self.tensors):
            raise FormatError("DEBUG or STRINGS: two tensors have the same name")
        for number, (head, offset, operands) in enumerate(operators):
            self.at = offset
            program.ops.append(self._op(program, head, operands, self.op_names[number]))
        program.name = self.program_name
        program.choices = choices.decode(self._bytes(Section.CHOICES), len(program.ops))
        check_program(program)
        self._check_redundant(program)
        self._check_lifetimes(program)
        return program

    # ---- Tensors, quantization, constants --------------------------------------------------------

    def _read_tensors(self) -> None:
        self.records = self._records(Section.TENSORS, schema.TENSOR)
        self.dims = self._array(Section.DIMS, "<u4")
        self.quants = self._records(Section.QUANTS, schema.QUANT)
        for i, record in enumerate(self.quants):
            _check_quant(record, f"quant {i} at byte {self._offset(Section.QUANTS) + i * schema.QUANT.dtype.itemsize}")
        if len(self.records) > schema.MAX_RECORDS:
            raise FormatError(f"section TENSORS: {len(self.records)} tensors; {schema.MAX_RECORDS} are the limit")
        self.tensors = [self._tensor(i, record) for i, record in enumerate(self.records)]

    def _tensor(self, index: int, record: np.ndarray) -> Tensor:
        where = f"tensor {index} at byte {self._offset(Section.TENSORS) + index * schema.TENSOR.dtype.itemsize}"
        dtype = _enum(Dtype, record, "dtype", where)
        region = _enum(Region, record, "region", where)
        encoding = _enum(Encoding, record, "encoding", where)
        if encoding != Encoding.DENSE and (region != Region.READONLY or dtype != Dtype.I8):
            raise FormatError(f"{where}: encoding {encoding.name} outside int8 constants")
        _check_tiles(encoding, int(record["tile_n"]), int(record["tile_k"]), where)
        tensor = Tensor(
            f"t{index}", self._shape(record, where), dtype, self._quant(int(record["quant"]), where), region
        )
        size = tensor_bytes(tensor)
        if encoding == Encoding.DENSE and int(record["bytes"]) != size:
            raise FormatError(f"{where}: bytes is {record['bytes']}, its shape makes {size}")
        if region in (Region.IO, Region.ARENA):
            tensor.offset = int(record["offset"])
        return tensor

    def _shape(self, record: np.ndarray, where: str) -> tuple[int, ...]:
        rank, at = int(record["rank"]), int(record["dims"])
        if rank > schema.MAX_RANK or at + rank > len(self.dims) or (rank == 0 and at != 0):
            raise FormatError(f"{where}: rank {rank}, dims {at} of {len(self.dims)}")
        shape = tuple(self.dims[at : at + rank].tolist())
        if not all(shape) or math.prod(shape) > schema.MAX_FILE_BYTES:
            raise FormatError(f"{where}: shape {list(shape)} is empty or too large")
        return shape

    def _quant(self, index: int, where: str) -> Quant | None:
        if index == schema.NO_QUANT:
            return None
        if index >= len(self.quants):
            raise FormatError(f"{where}: quant {index} of {len(self.quants)}")
        record = self.quants[index]
        if record["granularity"] != Granularity.TENSOR:
            raise FormatError(f"{where}: quantization per axis or group is not supported by this reader")
        return Quant(np.float32(record["scale"]), int(record["zero_point"]))

    def _read_constants(self, operators: list[tuple[np.ndarray, int, list[int]]]) -> None:
        weights: set[int] = set()
        activations: set[int] = set()
        depthwise: set[int] = set()
        for head, _, operands in operators:
            for place, index in enumerate(operands):
                weight = place == 1 and head["opcode"] in _ACCUMULATES
                (weights if weight else activations).add(index)
                if weight and head["opcode"] == Opcode.DEPTHWISE_CONV2D:
                    depthwise.add(index)
        for index, (tensor, record) in enumerate(zip(self.tensors, self.records, strict=True)):
            if tensor.region != Region.READONLY:
                continue
            encoding = Encoding(int(record["encoding"]))
            if encoding != Encoding.DENSE and (index not in weights or index in activations):
                raise FormatError(f"tensor {index}: encoding {encoding.name} for a tensor that is no weights")
            if index in depthwise and encoding in (Encoding.INTERLEAVED, Encoding.PAIRED):
                raise FormatError(f"tensor {index}: depthwise weights are never {encoding.name}")
            tensor.data = self._constant(index, tensor, record, encoding)

    def _constant(self, index: int, tensor: Tensor, record: np.ndarray, encoding: Encoding) -> np.ndarray:
        where = f"tensor {index}"
        align = schema.WEIGHTS_ALIGN.get(encoding, 1)
        if record["offset"] % align:
            raise FormatError(f"{where}: offset {record['offset']} is no multiple of {align}")
        data = self._weights(int(record["offset"]), int(record["bytes"]), where)
        if tensor.dtype not in _NUMPY:
            raise FormatError(f"{where}: element type {tensor.dtype.name} is not supported by this reader")
        tile_n, tile_k = int(record["tile_n"]), int(record["tile_k"])
        try:
            if encoding == Encoding.INTERLEAVED:
                self._feature(Feature.INTERLEAVED_WEIGHTS)
                return packing.decode_interleaved(data, tensor.shape, tile_n, tile_k)
            if encoding == Encoding.SPARSE:
                self._feature(Feature.SPARSE_WEIGHTS)
                return packing.decode_sparse(data, tensor.shape, tile_n, tile_k)
            if encoding == Encoding.PAIRED:
                self._feature(Feature.PAIRED_WEIGHTS)
                return packing.decode_paired(data, tensor.shape)
        except FormatError as error:
            raise FormatError(f"{where}: {error}") from None
        return np.frombuffer(data, _NUMPY[tensor.dtype]).reshape(tensor.shape).copy()

    def _feature(self, feature: Feature) -> None:
        if not int(self.header["required_features"]) & feature:
            raise FormatError(f"{feature.name} are used but not announced in required_features")

    # ---- Ports and names -------------------------------------------------------------------------

    def _read_ports(self, program: Program) -> None:
        strings = self._bytes(Section.STRINGS)
        records = self._records(Section.IOS, schema.IO)
        for index, record in enumerate(records):
            where = f"port {index} at byte {self._offset(Section.IOS) + index * schema.IO.dtype.itemsize}"
            at, tensor, output = int(record["name"]), int(record["tensor"]), int(record["output"])
            end = strings.find(b"\0", at)
            if at >= len(strings) or end < 0:
                raise FormatError(f"{where}: name {at} is not in STRINGS")
            if tensor >= len(self.tensors) or output > 1 or (program.outputs and not output) or record["reserved"]:
                raise FormatError(f"{where}: tensor {tensor} or output {output} is out of range or order")
            if self.tensors[tensor].region != Region.IO or self.tensors[tensor].offset != index:
                raise FormatError(f"{where}: tensor {tensor} is not the one of this port")
            try:
                name = strings[at:end].decode()
            except UnicodeDecodeError:
                raise FormatError(f"{where}: the name is not UTF-8") from None
            self.tensors[tensor].name = name
            (program.outputs if output else program.inputs).append(name)
        io = sum(t.region == Region.IO for t in self.tensors)
        if io != len(records):
            raise FormatError(f"{io} tensors in region IO, {len(records)} ports")

    def _name(self, operators: list[tuple[np.ndarray, int, list[int]]]) -> None:
        """Gives the program, operators and inner tensors their names."""
        pending = {i: t for i, t in enumerate(self.tensors) if t.region != Region.IO}
        debug = self._bytes(Section.DEBUG)
        if not debug:
            self.program_name = "model"
            self.op_names = [f"op{i}" for i in range(len(operators))]
            ports = {t.name for t in self.tensors if t.region == Region.IO}
            for tensor in pending.values():
                while tensor.name in ports:
                    tensor.name += "_"
            return
        found = names.decode(debug, 1 + len(operators) + len(pending))
        self.program_name, self.op_names = found[0], []
        queue = iter(found[1:])
        for _, _, operands in operators:
            self.op_names.append(next(queue))
            for index in operands:
                if index in pending:
                    pending.pop(index).name = next(queue)
        for tensor in pending.values():
            tensor.name = next(queue)

    # ---- Operators -------------------------------------------------------------------------------

    def _op_records(self) -> list[tuple[np.ndarray, int, list[int]]]:
        """Head, offset in the file of the parameters and operands of every operator."""
        ops = self._bytes(Section.OPS)
        base, at = self._offset(Section.OPS), 0
        found: list[tuple[np.ndarray, int, list[int]]] = []
        while at < len(ops):
            where = f"operator {len(found)} at byte {base + at}"
            if at + schema.OP_HEADER.dtype.itemsize > len(ops):
                raise FormatError(f"{where}: the section ends inside it")
            head = np.frombuffer(ops, schema.OP_HEADER.dtype, 1, at)[0]
            if head["opcode"] not in _PARAMS:
                raise FormatError(f"{where}: opcode {head['opcode']} is not supported by this reader")
            if head["version"] != 1 or head["reserved"]:
                raise FormatError(f"{where}: version {head['version']} or reserved {head['reserved']}")
            count = int(head["n_inputs"]) + int(head["n_outputs"])
            params = schema.OP_HEADER.dtype.itemsize + (2 * count + 3) // 4 * 4
            size = params + schema.OP_PARAMS[Opcode(int(head["opcode"]))].dtype.itemsize
            if int(head["bytes"]) != size or at + size > len(ops):
                raise FormatError(f"{where}: bytes is {head['bytes']}, should be {size}")
            operands = np.frombuffer(ops, "<u2", (params - 8) // 2, at + 8).tolist()
            if any(operands[count:]) or any(i >= len(self.tensors) for i in operands[:count]):
                raise FormatError(f"{where}: tensors {operands}")
            found.append((head, base + at + params, operands[:count]))
            at += size
        if len(found) > schema.MAX_RECORDS:
            raise FormatError(f"section OPS: {len(found)} operators; {schema.MAX_RECORDS} are the limit")
        return found

    def _op(self, program: Program, head: np.ndarray, operands: list[int], name: str) -> Op:
        opcode = Opcode(int(head["opcode"]))
        dtype = schema.OP_PARAMS[opcode].dtype
        params = np.frombuffer(self.data, dtype, 1, self.at)[0] if dtype.itemsize else np.zeros((), dtype)
        tensors = [self.tensors[i] for i in operands]
        split = int(head["n_inputs"])
        where = f"operator {len(program.ops)} '{name}' ({opcode.name}) at byte {self.at}"
        inputs = schema.OPERANDS[opcode]
        if not inputs.least <= split <= inputs.most or len(tensors) != split + 1:
            raise FormatError(f"{where}: {split} inputs, {len(tensors) - split} outputs")
        if "reserved" in (dtype.names or ()) and np.any(params["reserved"]):
            raise FormatError(f"{where}: reserved is not zero")
        try:
            fields, expected = _PARAMS[opcode](self, params, tensors)
            operand_names = [t.name for t in tensors]
            op = OP_CLASSES[opcode](name, operand_names[:split], operand_names[split:], **fields)
        except FormatError as error:
            raise FormatError(f"{where}: {error}") from None
        self.redundant += [(f"{where}: {key}", params[key], op, function) for key, function in expected.items()]
        return op

    def _check_redundant(self, program: Program) -> None:
        """Parameters that repeat scales agree with them; the scales are known to be there."""
        for where, stored, op, function in self.redundant:
            value = np.float32(function(program, op))
            if np.float32(stored).tobytes() != value.tobytes():
                raise FormatError(f"{where} is {stored}, the scales make {value}")

    def _accumulate(self, params: np.ndarray, tensors: list[Tensor]) -> Fields:
        x, w, y = tensors
        if w.data is None or x.quant is None or y.quant is None:
            raise FormatError("weights are not constant or an activation has no scale")
        depthwise = len(w.shape) == 3
        channels = w.shape[-1] if depthwise else w.shape[0]
        start = self._weight_array(params, "start", "<i4", channels)
        m = self._weight_array(params, "multiplier", "<f4", channels)
        sums = weight_sums(Opcode.DEPTHWISE_CONV2D if depthwise else Opcode.CONV2D, w.data)
        bias = (start.astype(np.int64) + x.quant.zero_point * sums).astype(np.uint32).view(np.int32)
        scale = _recover(m, x.quant.scale, y.quant.scale, "multiplier")
        return {"bias": bias, "weight_scale": scale, **_clamp(params)}, {}

    def _conv2d(self, params: np.ndarray, tensors: list[Tensor]) -> Fields:
        fields, expected = self._accumulate(params, tensors)
        return fields | _window(params) | {"groups": int(params["groups"])}, expected

    def _depthwise(self, params: np.ndarray, tensors: list[Tensor]) -> Fields:
        fields, expected = self._accumulate(params, tensors)
        return fields | _window(params), expected

    def _quantize(self, params: np.ndarray, tensors: list[Tensor]) -> Fields:
        rank = len(tensors[1].shape)
        fields: dict[str, object] = {"perm": _perm(params["perm"], rank)}
        if params["table"] == schema.NO_INDEX:
            zero = ("raw_perm", "raw_dtype", "table_axis", "raw_layout", "table_count")
            if any(np.any(params[key]) for key in zero) or any(params[key] != schema.NO_INDEX for key in ("mean", "std")):
                raise FormatError("fields of a raw table without a table")
            return fields, {}
        if params["raw_dtype"] not in (Dtype.I8, Dtype.U8) or params["table_count"] == 0:
            raise FormatError(f"raw_dtype {params['raw_dtype']} or table_count {params['table_count']}")
        count = int(params["table_count"])
        fields["raw_perm"] = _perm(params["raw_perm"], rank)
        fields["raw_dtype"] = Dtype(int(params["raw_dtype"]))
        fields["table_axis"] = int(params["table_axis"])
        fields["raw_layout"] = _enum(RawLayout, params, "raw_layout", "raw data")
        fields["raw_table"] = self._weight_array(params, "table", "i1", 256 * count).reshape(count, 256)
        fields["raw_mean"] = self._weight_array(params, "mean", "<f4", count)
        fields["raw_std"] = self._weight_array(params, "std", "<f4", count)
        return fields, {}

    def _dequantize(self, params: np.ndarray, tensors: list[Tensor]) -> Fields:
        return {"perm": _perm(params["perm"], len(tensors[0].shape))}, {}

    def _matmul(self, params: np.ndarray, tensors: list[Tensor]) -> Fields:
        return _clamp(params), {"multiplier": product_multiplier}

    def _add(self, params: np.ndarray, tensors: list[Tensor]) -> Fields:
        expected = {
            "multiplier_a": lambda program, op: sum_multipliers(program, op)[0],
            "multiplier_b": lambda program, op: sum_multipliers(program, op)[1],
        }
        return {"subtract": bool(params["multiplier_b"] < 0), **_clamp(params)}, expected

    def _max_pool(self, params: np.ndarray, tensors: list[Tensor]) -> Fields:
        return {"kernel": (int(params["kernel_h"]), int(params["kernel_w"])), **_window(params)}, {}

    def _average_pool(self, params: np.ndarray, tensors: list[Tensor]) -> Fields:
        if params["count_include_pad"] > 1:
            raise FormatError(f"count_include_pad is {params['count_include_pad']}")
        fields, _ = self._max_pool(params, tensors)
        return fields | {"count_include_pad": bool(params["count_include_pad"]), **_clamp(params)}, {}

    def _lut(self, params: np.ndarray, tensors: list[Tensor]) -> Fields:
        return {"table": self._weight_array(params, "table", "i1", 256)}, {}

    def _prelu(self, params: np.ndarray, tensors: list[Tensor]) -> Fields:
        x, y = tensors
        if not x.shape or x.quant is None or y.quant is None:
            raise FormatError("input has no channels or no scale")
        negative = self._weight_array(params, "negative", "<f4", x.shape[-1])
        if not np.isfinite(negative).all():
            raise FormatError("a negative multiplier is not finite")
        slope = np.zeros(len(negative), np.float32)
        some = negative != 0
        slope[some] = _recover(np.abs(negative[some]), x.quant.scale, y.quant.scale, "negative")
        slope = np.copysign(slope, negative)
        expected = {"multiplier": lambda program, op: prelu_multipliers(program, op)[0]}
        return {"slope": slope, **_clamp(params)}, expected

    def _softmax(self, params: np.ndarray, tensors: list[Tensor]) -> Fields:
        table = self._weight_array(params, "table", "<u4", 256)
        return {"table": table, **_clamp(params)}, {"inverse_scale": inverse_scale}

    def _layer_norm(self, params: np.ndarray, tensors: list[Tensor]) -> Fields:
        x = tensors[0]
        if not x.shape:
            raise FormatError("input has no dimension to normalize over")
        gain, offset = (self._weight_array(params, key, "<f4", x.shape[-1]) for key in ("gain", "offset"))
        return {"epsilon": np.float32(params["epsilon"]), "gain": gain, "offset": offset, **_clamp(params)}, {}

    def _reshape(self, params: np.ndarray, tensors: list[Tensor]) -> Fields:
        return {}, {}

    def _transpose(self, params: np.ndarray, tensors: list[Tensor]) -> Fields:
        return {"perm": _perm(params["perm"], len(tensors[0].shape))}, {}

    def _slice(self, params: np.ndarray, tensors: list[Tensor]) -> Fields:
        rank = len(tensors[0].shape)
        starts, steps = _front(params["start"], rank, 0, "start"), _front(params["step"], rank, 1, "step")
        return {"starts": starts, "steps": steps}, {}

    def _pad(self, params: np.ndarray, tensors: list[Tensor]) -> Fields:
        rank = len(tensors[0].shape)
        return {"before": _front(params["before"], rank, 0, "before"), "value": int(params["value"])}, {}

    def _concat(self, params: np.ndarray, tensors: list[Tensor]) -> Fields:
        return {"axis": int(params["axis"])}, {}

    def _resize(self, params: np.ndarray, tensors: list[Tensor]) -> Fields:
        y = tensors[1].shape
        if len(y) != 4:
            raise FormatError(f"output has rank {len(y)}, not 4")
        rows, cols = (self._weight_array(params, key, "<u2", n) for key, n in (("rows", y[1]), ("cols", y[2])))
        return {"rows": rows, "cols": cols}, {}

    def _check_lifetimes(self, program: Program) -> None:
        lives = lifetimes(program)
        for index, (tensor, record) in enumerate(zip(self.tensors, self.records, strict=True)):
            recorded = (int(record["first_op"]), int(record["last_op"]))
            if recorded != lives[tensor.name]:
                raise FormatError(
                    f"tensor {index} '{tensor.name}': first_op, last_op are {recorded}, not {lives[tensor.name]}"
                )

    # ---- Bytes -----------------------------------------------------------------------------------

    def _offset(self, section: Section) -> int:
        return int(self.sections[section][0])

    def _bytes(self, section: Section) -> bytes:
        offset, size = self.sections[section].tolist()
        return self.data[offset : offset + size]

    def _array(self, section: Section, dtype: str) -> np.ndarray:
        data = self._bytes(section)
        if len(data) % np.dtype(dtype).itemsize:
            raise FormatError(f"header: section {section.name} has {len(data)} bytes, no whole number of elements")
        return np.frombuffer(data, dtype)

    def _records(self, section: Section, struct: Struct) -> np.ndarray:
        return self._array(section, struct.dtype)  # type: ignore[arg-type]

    def _weights(self, offset: int, size: int, where: str) -> bytes:
        base, total = self.sections[Section.WEIGHTS].tolist()
        if offset + size > total:
            raise FormatError(f"{where}: bytes [{offset}, {offset + size}) of WEIGHTS, which has {total}")
        return self.data[base + offset : base + offset + size]

    def _weight_array(self, params: np.ndarray, key: str, dtype: str, count: int) -> np.ndarray:
        offset = int(params[key])
        if offset % 4:
            raise FormatError(f"{key}: offset {offset} is no multiple of 4")
        return np.frombuffer(self._weights(offset, count * np.dtype(dtype).itemsize, key), dtype).copy()


Fields = tuple[dict[str, object], dict[str, Callable[..., np.float32]]]
"""An operator's attributes, and the redundant parameters with what they must be equal to."""

_PARAMS: dict[Opcode, Callable[..., Fields]] = {
    Opcode.QUANTIZE: _Reader._quantize,
    Opcode.DEQUANTIZE: _Reader._dequantize,
    Opcode.CONV2D: _Reader._conv2d,
    Opcode.DEPTHWISE_CONV2D: _Reader._depthwise,
    Opcode.DENSE: _Reader._accumulate,
    Opcode.MATMUL: _Reader._matmul,
    Opcode.ADD: _Reader._add,
    Opcode.MUL: _Reader._matmul,
    Opcode.MAX_POOL: _Reader._max_pool,
    Opcode.AVERAGE_POOL: _Reader._average_pool,
    Opcode.LUT: _Reader._lut,
    Opcode.PRELU: _Reader._prelu,
    Opcode.SOFTMAX: _Reader._softmax,
    Opcode.RESHAPE: _Reader._reshape,
    Opcode.TRANSPOSE: _Reader._transpose,
    Opcode.SLICE: _Reader._slice,
    Opcode.PAD: _Reader._pad,
    Opcode.CONCAT: _Reader._concat,
    Opcode.RESIZE_NEAREST: _Reader._resize,
    Opcode.LAYER_NORM: _Reader._layer_norm,
    Opcode.MATMUL_TRANSPOSED: _Reader._matmul,
}
_ACCUMULATES = (Opcode.CONV2D, Opcode.DEPTHWISE_CONV2D, Opcode.DENSE)
_NUMPY = {Dtype.I8: "i1"}


def read_header(data: bytes) -> np.ndarray:
    """The checked header of a file: magic, version, features, size and both checksums."""
    size = schema.HEADER.dtype.itemsize
    if data[: len(schema.MAGIC)] != schema.MAGIC[: len(data)] or not data:
        raise FormatError("header: no .ekm file (magic)")
    if len(data) < size:
        raise FormatError(f"header: the file ends after {len(data)} of {size} bytes")
    header = np.frombuffer(data, schema.HEADER.dtype, 1)[0]
    if header["version_major"] != schema.VERSION_MAJOR:
        raise FormatError(
            f"header: format version {header['version_major']}.{header['version_minor']}; "
            f"this reader knows {schema.VERSION_MAJOR}; convert the model again"
        )
    if header["file_bytes"] != len(data):
        raise FormatError(f"header: file_bytes is {header['file_bytes']}, the file has {len(data)}")
    program_bytes = int(header["program_bytes"])
    if not size <= program_bytes <= len(data) or program_bytes % schema.SECTION_ALIGN:
        raise FormatError(f"header: program_bytes is {program_bytes}")
    zeroed = data[:12] + bytes(4) + data[16:program_bytes]
    for name, expected in (
        ("program_checksum", zlib.crc32(zeroed)),
        ("weights_checksum", zlib.crc32(data[program_bytes:])),
    ):
        if header[name] != expected:
            raise FormatError(f"header: {name} does not match, the file is damaged")
    missing = int(header["required_features"]) & ~int(SUPPORTED)
    if missing:
        raise FormatError(f"header: the file needs {feature_names(missing)}, which this version does not support")
    if np.any(header["reserved"]) or header["arena_bytes"] > schema.MAX_ARENA_BYTES or header["state_bytes"]:
        raise FormatError("header: reserved, arena_bytes or state_bytes is out of range")
    return header


def feature_names(bits: int) -> str:
    """The features of a bitmap by name; unknown bits by number."""
    return ", ".join(
        str(Feature(1 << b).name) if 1 << b in Feature.__members__.values() else f"feature bit {b}"
        for b in range(64)
        if bits >> b & 1
    )


def _sections(data: bytes, header: np.ndarray) -> np.ndarray:
    """Offset and size by `Section`: in order, aligned, apart, with zeros between them."""
    table = header["section"].reshape(-1, 2).astype(np.int64)
    if table[len(Section) :].any():
        raise FormatError("header: a section slot without a meaning is in use")
    end = schema.HEADER.dtype.itemsize
    for section in Section:
        offset, size = table[section].tolist()
        if size == 0:
            if offset:
                raise FormatError(f"header: section {section.name} is empty but has offset {offset}")
            continue
        limit = len(data) if section >= Section.WEIGHTS else int(header["program_bytes"])
        floor = int(header["program_bytes"]) if section >= Section.WEIGHTS else 0
        if offset % schema.SECTION_ALIGN or offset < max(end, floor) or offset + size > limit:
            raise FormatError(f"header: section {section.name} at [{offset}, {offset + size}) is out of place")
        if any(data[end:offset]):
            raise FormatError(f"bytes [{end}, {offset}) in front of section {section.name} are not zero")
        end = offset + size
    if any(data[end:]):
        raise FormatError(f"bytes [{end}, {len(data)}) behind the last section are not zero")
    return table


def _enum(kind: type[_E], record: np.ndarray, field: str, where: str) -> _E:
    try:
        return kind(int(record[field]))
    except ValueError:
        raise FormatError(f"{where}: {field} {record[field]} is unknown") from None


def _check_quant(record: np.ndarray, where: str) -> None:
    """What holds for every record, whether or not a tensor refers to it."""
    granularity = _enum(Granularity, record, "granularity", where)
    if granularity == Granularity.TENSOR:
        foreign = record["axis"] or record["group"] or record["scales"] != schema.NO_INDEX
        check_scale(float(record["scale"]), f"{where}: scale")
    else:
        foreign = record["scale"] or record["zero_point"] or (record["group"] and granularity == Granularity.AXIS)
    if foreign:
        raise FormatError(f"{where}: has fields of another granularity")


def _check_tiles(encoding: Encoding, tile_n: int, tile_k: int, where: str) -> None:
    power_n = tile_n & (tile_n - 1) == 0 and tile_n <= schema.MAX_TILE_N
    power_k = tile_k & (tile_k - 1) == 0
    fits = {
        Encoding.DENSE: tile_n == tile_k == 0,
        Encoding.INTERLEAVED: power_n and tile_n > 0 and power_k and 0 < tile_k <= schema.MAX_TILE_K,
        Encoding.SPARSE: power_n and 1 <= tile_k <= schema.MAX_GAP_BITS,
        Encoding.PAIRED: tile_n == tile_k == schema.PAIRED_TILE,
    }
    if not fits.get(encoding, False):
        raise FormatError(f"{where}: encoding {encoding.name} with tile_n {tile_n}, tile_k {tile_k}")


def _clamp(params: np.ndarray) -> dict[str, object]:
    return {"lo": int(params["lo"]), "hi": int(params["hi"])}


def _window(params: np.ndarray) -> dict[str, object]:
    strides, dilations, pads = (
        tuple(int(params[f"{key}_{side}"]) for side in sides)
        for key, sides in (("stride", "hw"), ("dilation", "hw"), ("pad", ("top", "left", "bottom", "right")))
    )
    return {"strides": strides, "dilations": dilations, "pads": pads}


def _front(values: np.ndarray, rank: int, fill: int, field: str) -> tuple[int, ...]:
    if np.any(values[rank:] != fill):
        raise FormatError(f"{field}: entries behind the rank are not {fill}")
    return tuple(values[:rank].tolist())


def _perm(values: np.ndarray, rank: int) -> tuple[int, ...]:
    return _front(values, rank, 0, "perm")


def _recover(m: np.ndarray, sx: np.float32, sy: np.float32, field: str) -> np.ndarray:
    """float32 s with `f32(f32(sx * s) / sy) == m`, one for each m.

    Such an s lies within a few steps of m * sy / sx, in the neighbourhood that three roundings span; the
    one nearest to it is taken. A file whose m comes from no s breaks a rule of the format.
    """
    check_scales(m, field)
    guess = (m.astype(np.float64) * np.float64(sy) / np.float64(sx)).astype(np.float32)
    out = np.zeros_like(guess)
    found = np.zeros(len(m), bool)
    for step in (0, -1, 1, -2, 2, -3, 3, -4, 4):
        with np.errstate(over="ignore"):
            s = (guess.view(np.int32) + np.int32(step)).view(np.float32)
            hit = ~found & ((np.float32(sx) * s) / np.float32(sy) == m)
        out[hit] = s[hit]
        found |= hit
    if not found.all():
        bad = int(np.argmin(found))
        raise FormatError(f"{field}[{bad}] = {m[bad]} comes from no binary32 scale")
    return out
