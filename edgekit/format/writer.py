# SPDX-License-Identifier: Apache-2.0
"""Program -> `.ekm`. The same program and options give the same bytes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgekit.atomic import write_atomically
from edgekit.errors import InputError
from edgekit.format import choices, names, packing, schema
from edgekit.format.rules import check_program
from edgekit.format.schema import Dtype, Encoding, Feature, Opcode, Section
from edgekit.format.tiles import Layer, Tile, TileByLayer
from edgekit.program import (
    Accumulate,
    Add,
    AveragePool,
    Concat,
    Conv2D,
    DepthwiseConv2D,
    Dequantize,
    LayerNorm,
    Lut,
    MatMul,
    MaxPool,
    Mul,
    Op,
    Pad,
    PRelu,
    Program,
    Quantize,
    ResizeNearest,
    Slice,
    Softmax,
    Tensor,
    Transpose,
    inverse_scale,
    lifetimes,
    multiplier,
    prelu_multipliers,
    product_multiplier,
    start_values,
    sum_multipliers,
    tensor_bytes,
)


@dataclass(frozen=True)
class Packing:
    """How weights are stored.

    Attributes:
        tile: rows and depth of INTERLEAVED tiles, as the kernels of a target want them, or what
            gives them for each layer; None for DENSE.
        paired: weights become PAIRED where they can and no user of them has groups.
        sparse_below: weights become SPARSE where that takes at most this share of their dense size;
            decoding costs time, so a small gain is not worth it. 0 for never.
    """

    tile: Tile | TileByLayer | None = None
    paired: bool = False
    sparse_below: float = 0.8


def write(
    program: Program,
    path: str | os.PathLike[str] | None = None,
    *,
    strip_debug: bool = False,
    packing: Packing = Packing(),
) -> bytes:
    """The file's bytes; also stored at `path`, completely or not at all.

    Args:
        program: planned: every ARENA tensor has its offset.
        strip_debug: leaves out the names of operators and inner tensors.

    Raises:
        InputError: a number does not fit the format, or `path` cannot be written.
    """
    check_program(program)
    data = _Writer(program, packing, strip_debug).file()
    if path is not None:
        write_atomically(path, data)
    return data


def _align(size: int, to: int) -> int:
    return size + -size % to


class _Pool:
    """The WEIGHTS section: equal arrays are stored once."""

    def __init__(self) -> None:
        self.data = bytearray()
        self._seen: dict[tuple[bytes, int], int] = {}

    def add(self, blob: bytes, align: int = 4) -> int:
        """Offset of `blob`, a multiple of `align`."""
        key = (blob, align)
        if key not in self._seen:
            self.data += bytes(-len(self.data) % align)
            self._seen[key] = len(self.data)
            self.data += blob
        return self._seen[key]

    def array(self, values: np.ndarray, dtype: str) -> int:
        return self.add(np.ascontiguousarray(values, np.dtype(dtype)).tobytes())


@dataclass
class _Writer:
    program: Program
    packing: Packing
    strip_debug: bool
    pool: _Pool = field(default_factory=_Pool)
    features: int = 0
    dims: dict[tuple[int, ...], int] = field(default_factory=dict)
    dim_values: list[int] = field(default_factory=list)
    quants: dict[bytes, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        used = {name for op in self.program.ops for name in (*op.inputs, *op.outputs)}
        used.update(self.program.inputs, self.program.outputs)
        self.tensors = [t for t in self.program.tensors.values() if t.name in used]
        self.index = {t.name: i for i, t in enumerate(self.tensors)}
        self.lives = lifetimes(self.program)

    def file(self) -> bytes:
        strings, ios = self._ios()
        sections = {
            # Weights go first into the pool, in the order of their operators.
            Section.TENSORS: b"".join(self._in_op_order()),
            Section.OPS: b"".join(self._op(op) for op in self.program.ops),
            Section.IOS: ios,
            Section.STRINGS: strings,
            Section.DEBUG: b"" if self.strip_debug else names.encode(debug_names(self.program, self.tensors)),
        }
        sections[Section.DIMS] = np.array(self.dim_values, "<u4").tobytes()
        sections[Section.QUANTS] = b"".join(self.quants)
        sections[Section.WEIGHTS] = bytes(self.pool.data)
        sections[Section.CHOICES] = choices.encode(self.program.choices)
        return self._assemble(sections)

    def _assemble(self, sections: dict[Section, bytes]) -> bytes:
        header = np.zeros((), schema.HEADER.dtype)
        body = bytearray(_align(schema.HEADER.dtype.itemsize, schema.SECTION_ALIGN))
        for section in Section:
            if section == Section.WEIGHTS:
                header["program_bytes"] = len(body)
            data = sections.get(section, b"")
            if not data:
                continue
            header["section"][2 * section : 2 * section + 2] = len(body), len(data)
            body += data
            if any(sections.get(s) for s in Section if s > section) or section < Section.WEIGHTS:
                body += bytes(-len(body) % schema.SECTION_ALIGN)
        if len(body) > schema.MAX_FILE_BYTES:
            raise InputError(f"{self.program.name}: {len(body)} bytes; a .ekm file holds 2^31 - 1")

        header["magic"] = np.frombuffer(schema.MAGIC, np.uint8)
        header["version_major"] = schema.VERSION_MAJOR
        header["version_minor"] = schema.VERSION_MINOR
        header["file_bytes"] = len(body)
        header["required_features"] = self.features
        header["arena_bytes"] = self.program.arena_bytes
        choices.seal(body, header)
        return bytes(body)

    # ---- Ports, tensors ------------------------------------------------------------------------

    def _ios(self) -> tuple[bytes, bytes]:
        strings = bytearray()
        ports = [(name, 0) for name in self.program.inputs] + [(name, 1) for name in self.program.outputs]
        records = np.zeros(len(ports), schema.IO.dtype)
        for record, (name, output) in zip(records, ports, strict=True):
            record["name"] = len(strings)
            record["tensor"] = self.index[name]
            record["output"] = output
            strings += name.encode() + b"\0"
        return bytes(strings), records.tobytes()

    def _in_op_order(self) -> list[bytes]:
        """Tensor records in index order, their data pooled in the order in which operators use it."""
        order = {name: n for n, op in reversed([*enumerate(self.program.ops)]) for name in op.inputs}
        records: dict[str, bytes] = {}
        for tensor in sorted(self.tensors, key=lambda t: order.get(t.name, 0)):
            records[tensor.name] = self._tensor(tensor)
        return [records[t.name] for t in self.tensors]

    def _tensor(self, tensor: Tensor) -> bytes:
        record = np.zeros((), schema.TENSOR.dtype)
        record["dtype"] = tensor.dtype
        record["rank"] = len(tensor.shape)
        record["region"] = tensor.region
        record["quant"] = self._quant(tensor)
        record["first_op"], record["last_op"] = self.lives[tensor.name]
        record["dims"] = self._dims(tensor.shape)
        record["bytes"] = tensor_bytes(tensor)
        if tensor.data is not None:
            self._store(tensor, record)
        else:
            record["offset"] = tensor.offset
        return record.tobytes()

    def _dims(self, shape: tuple[int, ...]) -> int:
        if shape and shape not in self.dims:
            self.dims[shape] = len(self.dim_values)
            self.dim_values += shape
        return self.dims[shape] if shape else 0

    def _quant(self, tensor: Tensor) -> int:
        if tensor.quant is None:
            return schema.NO_QUANT
        record = np.zeros((), schema.QUANT.dtype)
        record["scale"] = tensor.quant.scale
        record["zero_point"] = tensor.quant.zero_point
        record["scales"] = schema.NO_INDEX
        return self.quants.setdefault(record.tobytes(), len(self.quants))

    def _store(self, tensor: Tensor, record: np.ndarray) -> None:
        """Puts the data of a constant into the pool and its encoding into `record`."""
        encoding, blob, tile_n, tile_k = self._encode(tensor)
        record["encoding"] = encoding
        record["tile_n"], record["tile_k"] = tile_n, tile_k
        record["offset"] = self.pool.add(blob, schema.WEIGHTS_ALIGN[encoding])
        record["bytes"] = len(blob)

    def _encode(self, tensor: Tensor) -> tuple[Encoding, bytes, int, int]:
        assert tensor.data is not None
        users = [op for op in self.program.ops if tensor.name in op.inputs]
        dense = np.ascontiguousarray(tensor.data, _NUMPY[tensor.dtype]).tobytes()
        if not all(isinstance(op, Accumulate) and op.inputs[0] != tensor.name for op in users):
            return Encoding.DENSE, dense, 0, 0
        depthwise = any(op.opcode == Opcode.DEPTHWISE_CONV2D for op in users)
        most = self.packing.sparse_below * len(dense)
        fits = not depthwise or tensor.size <= packing.SPARSE_TILE_ELEMENTS
        if fits and packing.least_sparse_bytes(tensor.data) <= most:
            blob, tile_n, gap_bits = packing.encode_sparse(tensor.data)
            if len(blob) <= most:
                self.features |= Feature.SPARSE_WEIGHTS
                return Encoding.SPARSE, blob, tile_n, gap_bits
        grouped = any(isinstance(op, Conv2D) and op.groups > 1 for op in users)
        if self.packing.paired and not depthwise and not grouped:
            pairs = packing.encode_paired(tensor.data)
            if pairs is not None:
                self.features |= Feature.PAIRED_WEIGHTS
                return Encoding.PAIRED, pairs, schema.PAIRED_TILE, schema.PAIRED_TILE
        tile = None if depthwise else self._tile(tensor, users)
        if tile and _tiles_fit_groups(tensor, users, tile[0]):
            self.features |= Feature.INTERLEAVED_WEIGHTS
            return Encoding.INTERLEAVED, packing.encode_interleaved(tensor.data, *tile), *tile
        return Encoding.DENSE, dense, 0, 0

    def _tile(self, weights: Tensor, users: list[Op]) -> Tile | None:
        """The tile for the first of the operators, all Accumulate, that read the weights."""
        tile = self.packing.tile
        if not isinstance(tile, TileByLayer):
            return tile
        op = users[0]
        assert isinstance(op, Accumulate)
        x, y = (self.program.tensors[name] for name in (op.inputs[0], op.outputs[0]))
        kernel = tile.kernel(Layer.of(op, x.shape, weights.shape, y.shape))
        chosen = (c.kernel for c in self.program.choices if self.program.ops[c.op] is op and c.instead_of == kernel)
        return tile.of(next(chosen, kernel)) or tile.of(kernel)

    # ---- Operators -----------------------------------------------------------------------------

    def _op(self, op: Op) -> bytes:
        struct = schema.OP_PARAMS[op.opcode]
        params = np.zeros((), struct.dtype)
        for name, value in _PARAMS.get(op.opcode, _no_params)(self, op).items():
            limits = np.iinfo(params.dtype[name].base) if params.dtype[name].base.kind in "iu" else None
            if limits and not all(limits.min <= v <= limits.max for v in np.ravel(value).tolist()):
                raise InputError(f"{op.name}: {name} = {value} does not fit the .ekm format")
            params[name] = value
        operands = np.array([self.index[t] for t in (*op.inputs, *op.outputs)], "<u2").tobytes()
        operands += bytes(-len(operands) % 4)
        tail = params.tobytes()

        head = np.zeros((), schema.OP_HEADER.dtype)
        head["bytes"] = head.nbytes + len(operands) + len(tail)
        head["opcode"] = op.opcode
        head["version"] = 1
        head["n_inputs"], head["n_outputs"] = len(op.inputs), len(op.outputs)
        return head.tobytes() + operands + tail

    def _quantize(self, op: Quantize) -> dict[str, Any]:
        params: dict[str, Any] = {"perm": _perm(op.perm)}
        if op.raw_table is None or op.raw_perm is None or op.raw_mean is None or op.raw_std is None:
            return params | dict.fromkeys(("table", "mean", "std"), schema.NO_INDEX)
        return params | {
            "raw_perm": _perm(op.raw_perm),
            "raw_dtype": op.raw_dtype,
            "table_axis": op.table_axis,
            "raw_layout": op.raw_layout,
            "table_count": len(op.raw_table),
            "table": self.pool.array(op.raw_table, "i1"),
            "mean": self.pool.array(op.raw_mean, "<f4"),
            "std": self.pool.array(op.raw_std, "<f4"),
        }

    def _dequantize(self, op: Dequantize) -> dict[str, Any]:
        return {"perm": _perm(op.perm)}

    def _accumulate(self, op: Accumulate) -> dict[str, Any]:
        return {
            "start": self.pool.array(start_values(self.program, op), "<i4"),
            "multiplier": self.pool.array(multiplier(self.program, op), "<f4"),
            **_clamp(op),
        }

    def _conv2d(self, op: Conv2D) -> dict[str, Any]:
        return self._accumulate(op) | _window(op) | {"groups": op.groups}

    def _depthwise(self, op: DepthwiseConv2D) -> dict[str, Any]:
        return self._accumulate(op) | _window(op)

    def _matmul(self, op: MatMul) -> dict[str, Any]:
        return {"multiplier": product_multiplier(self.program, op), **_clamp(op)}

    def _add(self, op: Add) -> dict[str, Any]:
        a, b = sum_multipliers(self.program, op)
        return {"multiplier_a": a, "multiplier_b": b, **_clamp(op)}

    def _mul(self, op: Mul) -> dict[str, Any]:
        return {"multiplier": product_multiplier(self.program, op), **_clamp(op)}

    def _max_pool(self, op: MaxPool) -> dict[str, Any]:
        return {"kernel_h": op.kernel[0], "kernel_w": op.kernel[1], **_window(op)}

    def _average_pool(self, op: AveragePool) -> dict[str, Any]:
        return {
            "kernel_h": op.kernel[0],
            "kernel_w": op.kernel[1],
            "count_include_pad": int(op.count_include_pad),
            **_window(op),
            **_clamp(op),
        }

    def _lut(self, op: Lut) -> dict[str, Any]:
        return {"table": self.pool.array(op.table, "i1")}

    def _prelu(self, op: PRelu) -> dict[str, Any]:
        positive, negative = prelu_multipliers(self.program, op)
        return {"multiplier": positive, "negative": self.pool.array(negative, "<f4"), **_clamp(op)}

    def _softmax(self, op: Softmax) -> dict[str, Any]:
        return {
            "table": self.pool.array(op.table, "<u4"),
            "inverse_scale": inverse_scale(self.program, op),
            **_clamp(op),
        }

    def _layer_norm(self, op: LayerNorm) -> dict[str, Any]:
        arrays = {"gain": self.pool.array(op.gain, "<f4"), "offset": self.pool.array(op.offset, "<f4")}
        return {"epsilon": op.epsilon, **arrays, **_clamp(op)}

    def _transpose(self, op: Transpose) -> dict[str, Any]:
        return {"perm": _perm(op.perm)}

    def _slice(self, op: Slice) -> dict[str, Any]:
        return {"start": _filled(op.starts, 0), "step": _filled(op.steps, 1)}

    def _pad(self, op: Pad) -> dict[str, Any]:
        return {"before": _filled(op.before, 0), "value": op.value}

    def _concat(self, op: Concat) -> dict[str, Any]:
        return {"axis": op.axis}

    def _resize(self, op: ResizeNearest) -> dict[str, Any]:
        return {"rows": self.pool.array(op.rows, "<u2"), "cols": self.pool.array(op.cols, "<u2")}


def _no_params(writer: _Writer, op: Op) -> dict[str, Any]:
    return {}


def _tiles_fit_groups(tensor: Tensor, users: list[Op], tile_n: int) -> bool:
    """Kernels read whole tiles, so none should straddle two groups."""
    groups = {op.groups for op in users if isinstance(op, Conv2D)}
    return all(g == 1 or tensor.shape[0] // g % tile_n == 0 for g in groups)


_PARAMS: dict[Opcode, Callable[..., dict[str, Any]]] = {
    Opcode.QUANTIZE: _Writer._quantize,
    Opcode.DEQUANTIZE: _Writer._dequantize,
    Opcode.CONV2D: _Writer._conv2d,
    Opcode.DEPTHWISE_CONV2D: _Writer._depthwise,
    Opcode.DENSE: _Writer._accumulate,
    Opcode.MATMUL: _Writer._matmul,
    Opcode.ADD: _Writer._add,
    Opcode.MUL: _Writer._mul,
    Opcode.MAX_POOL: _Writer._max_pool,
    Opcode.AVERAGE_POOL: _Writer._average_pool,
    Opcode.LUT: _Writer._lut,
    Opcode.PRELU: _Writer._prelu,
    Opcode.SOFTMAX: _Writer._softmax,
    Opcode.TRANSPOSE: _Writer._transpose,
    Opcode.SLICE: _Writer._slice,
    Opcode.PAD: _Writer._pad,
    Opcode.CONCAT: _Writer._concat,
    Opcode.RESIZE_NEAREST: _Writer._resize,
    Opcode.LAYER_NORM: _Writer._layer_norm,
    Opcode.MATMUL_TRANSPOSED: _Writer._matmul,
}

_NUMPY = {Dtype.I8: "i1", Dtype.U8: "u1", Dtype.I16: "<i2", Dtype.I32: "<i4", Dtype.I64: "<i8", Dtype.F32: "<f4"}


def _filled(values: tuple[int, ...], fill: int) -> list[int]:
    return [*values, *[fill] * (schema.MAX_RANK - len(values))]


def _perm(perm: tuple[int, ...]) -> list[int]:
    return _filled(perm, 0)


def _clamp(op: Accumulate | MatMul | Add | Mul | AveragePool | PRelu | Softmax | LayerNorm) -> dict[str, Any]:
    return {"lo": op.lo, "hi": op.hi}


def _window(op: Conv2D | DepthwiseConv2D | MaxPool | AveragePool) -> dict[str, Any]:
    names_ = ("stride_h", "stride_w", "dilation_h", "dilation_w", "pad_top", "pad_left", "pad_bottom", "pad_right")
    return dict(zip(names_, (*op.strides, *op.dilations, *op.pads), strict=True))


def debug_names(program: Program, tensors: list[Tensor]) -> list[str]:
    """What DEBUG holds, in its order: the model's name, then for each operator its name and those of its
    tensors that have none yet, then the tensors that are left. Ports have their names in STRINGS."""
    ports = {*program.inputs, *program.outputs}
    pending = dict.fromkeys(t.name for t in tensors if t.name not in ports)
    out = [program.name]
    for op in program.ops:
        out.append(op.name)
        for name in dict.fromkeys((*op.inputs, *op.outputs)):
            if name in pending:
                del pending[name]
                out.append(name)
    return [*out, *pending]
