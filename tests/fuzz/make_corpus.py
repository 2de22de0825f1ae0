# SPDX-License-Identifier: Apache-2.0
"""Makes tests/fuzz/corpus: files that must load, and files that must be refused, with which status.

    python -m tests.fuzz.make_corpus

A file in `refuse/` is named after the status it must be refused with and what is wrong with it. What
is in `found/` was kept by a search (docs/FUZZING.md) and is not made here.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import program as p
from edgekit.format import schema
from edgekit.format.schema import Dtype, Encoding, Feature, Granularity, Opcode, RawLayout, Region, Section
from edgekit.format.writer import Packing, write
from edgekit.plan.planner import plan
from tests.fuzz.edit import Edit, repair
from tests.support import OPERATORS, Build, Random, exp_table, quant

O = Opcode  # noqa: E741
CORPUS = Path(__file__).parent / "corpus"
DENSE = Packing(sparse_below=0)
INTERLEAVED = Packing(tile=(8, 4), sparse_below=0)
SPARSE = Packing(sparse_below=100)
PAIRED = Packing(paired=True, sparse_below=0)


def _file(program: p.Program, packing: Packing = DENSE) -> bytes:
    plan(program)
    return write(program, packing=packing)


def _sparse_weights(program: p.Program) -> p.Program:
    for tensor in program.tensors.values():
        if tensor.data is not None and tensor.quant is None:
            tensor.data = np.where(
                np.arange(tensor.size).reshape(tensor.shape) % 5 == 0, tensor.data, 0
            ).astype(np.int8)
    return program


# ---- Files that must load ----------------------------------------------------------------------


def network() -> p.Program:
    """Float in and out, raw input, conv, depthwise, residual add, pooling, dense, softmax."""
    b, r = Build(), Random(7)
    table = r.int8(2, 256)
    x = b.float_input(
        (1, 2, 8, 7), quant(0.05, 3), perm=(0, 2, 3, 1),
        raw_dtype=Dtype.U8, raw_perm=(0, 1, 2, 3), raw_table=table, table_axis=3, raw_layout=RawLayout.NHWC,
        raw_mean=np.array([128, 120], np.float32), raw_std=np.array([64, 60.5], np.float32),
    )  # fmt: skip
    full = {"lo": -128, "hi": 127}

    def scales(n: int) -> dict[str, np.ndarray]:
        return {"bias": r.rng.integers(-500, 500, n).astype(np.int32), "weight_scale": r.weight_scale(n)}

    c = b.op(
        p.Conv2D, [x, b.constant(r.weights(8, 3, 3, 2))], (1, 8, 7, 8), quant(0.1, -128),
        pads=(1, 1, 1, 1), **scales(8), **full,
    )  # fmt: skip
    d = b.op(
        p.DepthwiseConv2D, [c, b.constant(r.weights(3, 3, 8))], (1, 8, 7, 8), quant(0.1, 5),
        pads=(1, 1, 1, 1), **scales(8), **full,
    )  # fmt: skip
    a = b.op(p.Add, [c, d], (1, 8, 7, 8), quant(0.2, 1), **full)
    m = b.op(p.MaxPool, [a], (1, 4, 3, 8), quant(0.2, 1), kernel=(2, 2), strides=(2, 2))
    v = b.op(p.AveragePool, [m], (1, 1, 1, 8), quant(0.1, 0), kernel=(4, 3), **full)
    f = b.op(p.Reshape, [v], (1, 8), quant(0.1, 0))
    k = b.op(p.Dense, [f, b.constant(r.weights(5, 8))], (1, 5), quant(0.1, 2), **scales(5), **full)
    s = b.op(p.Softmax, [k], (1, 5), quant(1 / 256, -128), table=exp_table(np.float32(0.1), 5))
    b.float_output(s)
    return b.finish()


def vectors() -> p.Program:
    """Two inputs, the first also as raw int8 through one table, the second as float32 alone."""
    b, r, q = Build(), Random(15), quant(0.1, 3)
    x = b.float_input(
        (1, 6), q, perm=(0, 1), raw_dtype=Dtype.I8, raw_perm=(0, 1), raw_table=r.int8(1, 256),
        raw_mean=np.array([83], np.float32), raw_std=np.array([0.5], np.float32),
    )  # fmt: skip
    y = b.float_input((1, 6), q, perm=(0, 1))
    b.float_output(b.op(p.Add, [x, y], (1, 6), quant(0.2), lo=-128, hi=127))
    return b.finish()


def moves() -> p.Program:
    """Every operator that moves values, a constant operand, two outputs."""
    b, r, q = Build(), Random(8), quant(0.1, 3)
    x = b.input((1, 4, 5, 3), q)
    t = b.op(p.Transpose, [x], (1, 5, 4, 3), q, perm=(0, 2, 1, 3))
    s = b.op(p.Slice, [t], (1, 3, 4, 3), q, starts=(0, 4, 0, 0), steps=(1, -2, 1, 1))
    g = b.op(p.Pad, [s], (1, 5, 4, 4), q, before=(0, 1, 0, 1), value=-3)
    z = b.op(p.ResizeNearest, [g], (1, 4, 4, 4), q, rows=np.array([4, 0, 2, 1]), cols=np.array([0, 3, 3, 1]))
    c = b.op(p.Concat, [z, z, b.constant(r.int8(1, 4, 4, 1), q)], (1, 4, 4, 9), q, axis=3)
    w = b.op(p.Mul, [c, b.constant(r.int8(9), quant(0.3))], (1, 4, 4, 9), quant(0.2, 9), lo=-100, hi=90)
    u = b.op(
        p.PRelu,
        [w],
        (1, 4, 4, 9),
        quant(0.1, 1),
        slope=np.linspace(-1, 1, 9).astype(np.float32),
        lo=-128,
        hi=127,
    )
    return b.finish(b.op(p.Lut, [u], (1, 4, 4, 9), quant(0.4), table=r.int8(256)), g)


def channel_tiles() -> p.Program:
    """More weights than one tile of scratch holds, in groups and not."""
    b, r = Build(), Random(9)
    full = {"lo": -128, "hi": 127}
    x = b.input((1, 3, 3, 32), quant(0.1, 1))

    def scales(n: int) -> dict[str, np.ndarray]:
        return {"bias": np.zeros(n, np.int32), "weight_scale": np.full(n, 2.0**-8, np.float32)}

    c = b.op(
        p.Conv2D,
        [x, b.constant(r.weights(34, 3, 3, 16))],
        (1, 1, 1, 34),
        quant(2.0),
        groups=2,
        **scales(34),
        **full,
    )
    d = b.op(p.Dense, [c, b.constant(r.weights(70, 34))], (1, 1, 1, 70), quant(2.0, 4), **scales(70), **full)
    return b.finish(d)


def deep() -> p.Program:
    """A dense layer whose odd channel's weights are as large as PAIRED ones may be together."""
    b = Build()
    w = np.zeros((2, 518), np.int8)
    w[1, :516] = -127
    w[1, 516] = 3
    scales = {"bias": np.zeros(2, np.int32), "weight_scale": np.full(2, 2.0**-8, np.float32)}
    x = b.input((1, 518), quant(0.1, 1))
    return b.finish(b.op(p.Dense, [x, b.constant(w)], (1, 2), quant(2.0), lo=-128, hi=127, **scales))


def counter() -> bytes:
    """y = x + s, then s = table[y], with s in STATE: the result depends on the runs before."""
    b, r, q = Build(), Random(10), quant(0.1, 3)
    x = b.input((1, 6), q)
    s = b.constant(r.int8(1, 6), q)
    y = b.op(p.Add, [x, s], (1, 6), q, lo=-128, hi=127)
    b.op(p.Lut, [y], (1, 6), q, table=r.int8(256))
    out = b.op(p.Lut, [y], (1, 6), q, table=r.int8(256))
    edit = Edit(_file(b.finish(out)))
    state = edit.ops[0].tensors[1]
    update = next(
        op for op in edit.ops if op.opcode == O.LUT and edit.tensor(op, -1)["region"] == Region.ARENA
    )
    unused = update.tensors[1]
    update.tensors[1] = state
    record = edit.tensors[state]
    edit.sections[Section.STATE] = bytearray(edit.weights(record["offset"], "u1", 6).tobytes())
    edit.tensors[state]["region"], edit.tensors[state]["offset"], edit.tensors[state]["first_op"] = (
        Region.STATE,
        0,
        0,
    )
    edit.tensors = np.delete(edit.tensors, unused)
    for op in edit.ops:
        op.tensors = [t - (t > unused) for t in op.tensors]
    for io in edit.ios:
        io["tensor"] -= io["tensor"] > unused
    edit.header["state_bytes"] = 6
    edit.header["required_features"] = Feature.STATE
    return edit.file()


def choices() -> p.Program:
    """The network with choices that count for each kernel set of x86 and NEON, and some that never do."""
    program = network()
    number = {op.opcode: i for i, op in enumerate(program.ops)}
    for opcode, kind, kernels in (
        (O.CONV2D, "conv2d", ("avx512vnni", "avxvnni", "avx2", "sse41", "dotprod", "neon")),
        (O.DENSE, "dense", ("avx512vnni", "avx2", "sse41")),
        (O.ADD, "add", ("avx512vnni", "avx2", "sse41", "neon")),
        (O.SOFTMAX, "softmax", ("avx512vbmi", "neon")),
    ):
        to = "conv2d_scalar" if kind == "dense" else f"{kind}_scalar"
        program.choices += [p.Choice(number[opcode], f"{kind}_{name}", to) for name in kernels]
    program.choices += [
        p.Choice(number[O.CONV2D], "conv2d_scalar", "conv2d_of_tomorrow"),
        p.Choice(number[O.CONV2D], "conv2d_of_tomorrow", "conv2d_scalar"),
        p.Choice(number[O.DENSE], "conv2d_scalar", "add_scalar"),
        p.Choice(number[O.ADD], "add_scalar", "add_avx2"),
    ]
    return program


def valid() -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every file that must load."""
    yield "network", _file(network())
    yield "network_interleaved", _file(network(), INTERLEAVED)
    yield "network_sparse", _file(_sparse_weights(network()), SPARSE)
    yield "vectors", _file(vectors())
    yield "moves", _file(moves())
    yield "channel_tiles", _file(channel_tiles())
    yield "channel_tiles_interleaved", _file(channel_tiles(), INTERLEAVED)
    yield "channel_tiles_sparse", _file(_sparse_weights(channel_tiles()), SPARSE)
    yield "network_paired", _file(network(), PAIRED)
    yield "channel_tiles_paired", _file(channel_tiles(), PAIRED)
    yield "deep_paired", _file(deep(), PAIRED)
    yield "counter", counter()
    yield "choices", _file(choices())
    for name, make in OPERATORS.items():
        yield name, _file(make(Random(11)))
    for name in ("conv2d", "dense"):
        yield f"{name}_interleaved", _file(OPERATORS[name](Random(12)), INTERLEAVED)
    for name in ("conv2d", "depthwise_conv2d", "dense"):
        yield f"{name}_sparse", _file(_sparse_weights(OPERATORS[name](Random(14))), SPARSE)


# ---- Files that must be refused ------------------------------------------------------------------

Change = Callable[[Edit], None]
_CHANGES: list[tuple[str, str, str, Change]] = []


def refused(status: str, what: str, base: str = "network") -> Callable[[Change], Change]:
    """Registers a change of file `base` after which it is refused with `status`."""

    def register(change: Change) -> Change:
        _CHANGES.append((status, what, base, change))
        return change

    return register


def _set(status: str, what: str, base: str, pick: Callable[[Edit], tuple[Any, Any, Any]]) -> None:
    """Registers setting one field: `pick` gives the record or array, the field or index, and the value."""

    def change(edit: Edit) -> None:
        record, key, value = pick(edit)
        record[key] = value

    _CHANGES.append((status, what, base, change))


def _record(edit: Edit, op: Opcode, position: int) -> np.ndarray:
    index = edit.op(op).tensors[position]
    return edit.tensors[index : index + 1]


def _quant(edit: Edit, op: Opcode, position: int) -> np.ndarray:
    index = int(_record(edit, op, position)["quant"][0])
    return edit.quants[index : index + 1]


for _status, _what, _base, _pick in [
    ("HEADER", "reserved", "network", lambda e: (e.header["reserved"], 1, 1)),
    ("HEADER", "arena_too_large", "network", lambda e: (e.header, "arena_bytes", 2**31)),
    ("HEADER", "state_size", "network", lambda e: (e.header, "state_bytes", 4)),
    ("FEATURE", "unknown_bit", "network", lambda e: (e.header, "required_features", 1 << 40)),
    ("FEATURE", "subprograms", "network", lambda e: (e.header, "required_features", Feature.SUBPROGRAMS)),
    ("TENSOR", "encoding_without_feature", "network_interleaved", lambda e: (e.header, "required_features", 0)),
    ("TENSOR", "dtype_zero", "network", lambda e: (_record(e, O.ADD, 0), "dtype", 0)),
    ("TENSOR", "dtype_needs_feature", "network", lambda e: (_record(e, O.ADD, 0), "dtype", Dtype.I16)),
    ("TENSOR", "rank", "network", lambda e: (_record(e, O.ADD, 0), "rank", 7)),
    ("TENSOR", "region", "network", lambda e: (_record(e, O.ADD, 0), "region", 4)),
    ("TENSOR", "encoding_of_activation", "network_interleaved", lambda e: (_record(e, O.ADD, 0), "encoding", Encoding.INTERLEAVED)),
    ("TENSOR", "encoding_unknown", "network", lambda e: (_record(e, O.CONV2D, 1), "encoding", 9)),
    ("TENSOR", "tile_of_dense", "network", lambda e: (_record(e, O.CONV2D, 1), "tile_n", 4)),
    ("TENSOR", "tile_no_power_of_two", "network_interleaved", lambda e: (_record(e, O.CONV2D, 1), "tile_n", 3)),
    ("TENSOR", "tile_too_large", "network_interleaved", lambda e: (_record(e, O.CONV2D, 1), "tile_k", 32)),
    ("TENSOR", "paired_without_feature", "network_paired", lambda e: (e.header, "required_features", 0)),
    ("TENSOR", "paired_tile", "network_paired", lambda e: (_record(e, O.CONV2D, 1), "tile_k", 8)),
    ("TENSOR", "paired_size", "deep_paired", lambda e: (_record(e, O.DENSE, 1), "bytes", 2064)),
    ("TENSOR", "paired_depthwise", "network", lambda e: (_record(e, O.DEPTHWISE_CONV2D, 1), "encoding", Encoding.PAIRED)),
    ("TENSOR", "gap_bits", "network_sparse", lambda e: (_record(e, O.CONV2D, 1), "tile_k", 9)),
    ("TENSOR", "beyond_arena", "network", lambda e: (_record(e, O.ADD, 0), "offset", 1 << 20)),
    ("TENSOR", "offset_wraps", "network", lambda e: (_record(e, O.ADD, 0), "offset", 0xFFFFFFF0)),
    ("TENSOR", "arena_alignment", "network", lambda e: (_record(e, O.DENSE, -1), "offset", 8)),
    ("TENSOR", "beyond_weights", "network", lambda e: (_record(e, O.CONV2D, 1), "offset", 1 << 24)),
    ("TENSOR", "weights_alignment", "network", lambda e: (_record(e, O.DENSE, 1), "offset", int(_record(e, O.DENSE, 1)["offset"][0]) + 4)),
    ("TENSOR", "bytes", "network", lambda e: (_record(e, O.ADD, 0), "bytes", 447)),
    ("TENSOR", "quant_index", "network", lambda e: (_record(e, O.ADD, 0), "quant", 500)),
    ("TENSOR", "dims_index", "network", lambda e: (_record(e, O.ADD, 0), "dims", 0xFFFFFFFF)),
    ("TENSOR", "io_index", "network", lambda e: (_record(e, O.QUANTIZE, 0), "offset", 1)),
    ("TENSOR", "dimension_zero", "network", lambda e: (e.dims, 0, 0)),
    ("TENSOR", "element_overflow", "network", lambda e: (e.dims, slice(None), 65536)),
    ("TENSOR", "granularity", "network", lambda e: (_quant(e, O.ADD, 0), "granularity", 3)),
    ("TENSOR", "group_without_feature", "network", lambda e: (_quant(e, O.ADD, 0), "granularity", Granularity.GROUP)),
    ("TENSOR", "quant_axis", "network", lambda e: (_quant(e, O.ADD, 0), "axis", 1)),
    ("TENSOR", "zero_point", "network", lambda e: (_quant(e, O.ADD, 0), "zero_point", 128)),
    ("SCALE", "scale_zero", "network", lambda e: (_quant(e, O.ADD, 0), "scale", 0)),
    ("SCALE", "scale_negative", "network", lambda e: (_quant(e, O.ADD, 0), "scale", -1)),
    ("SCALE", "scale_nan", "network", lambda e: (_quant(e, O.ADD, 0), "scale", np.nan)),
    ("SCALE", "scale_infinite", "network", lambda e: (_quant(e, O.ADD, 0), "scale", np.inf)),
    ("SCALE", "scale_small", "network", lambda e: (_quant(e, O.ADD, 0), "scale", 2.0**-97)),
    ("SCALE", "scale_large", "network", lambda e: (_quant(e, O.ADD, 0), "scale", 2.0**65)),
    ("TENSOR", "io_reserved", "network", lambda e: (e.ios[:1], "reserved", 1)),
    ("TENSOR", "io_tensor", "network", lambda e: (e.ios[:1], "tensor", 500)),
    ("TENSOR", "io_name", "network", lambda e: (e.ios[:1], "name", 500)),
    ("TENSOR", "io_names_equal", "network", lambda e: (e.ios[1:2], "name", int(e.ios[0]["name"]))),
    ("TENSOR", "io_output_first", "network", lambda e: (e.ios, "output", [1, 0])),
    ("HEADER", "no_input", "network", lambda e: (e.ios, "output", 1)),
    ("OPERATOR", "record_bytes", "network", lambda e: (e.op(O.ADD).head, "bytes", 28)),
    ("OPERATOR", "record_bytes_huge", "network", lambda e: (e.op(O.ADD).head, "bytes", 65532)),
    ("OPERATOR", "opcode_unknown", "network", lambda e: (e.op(O.ADD).head, "opcode", 99)),
    ("OPERATOR", "opcode_call", "network", lambda e: (e.op(O.ADD).head, "opcode", O.CALL)),
    ("OPERATOR", "op_version", "network", lambda e: (e.op(O.ADD).head, "version", 2)),
    ("OPERATOR", "op_reserved", "network", lambda e: (e.op(O.ADD).head, "reserved", 1)),
    ("OPERATOR", "op_inputs", "network", lambda e: (e.op(O.ADD).head, "n_inputs", 3)),
    ("OPERATOR", "op_outputs", "network", lambda e: (e.op(O.ADD).head, "n_outputs", 0)),
    ("OPERATOR", "tensor_index", "network", lambda e: (e.op(O.ADD).tensors, 0, 500)),
    ("OPERATOR", "clamp_order", "network", lambda e: (e.op(O.ADD).params, "hi", -129)),
    ("OPERATOR", "clamp_range", "network", lambda e: (e.op(O.ADD).params, "hi", 128)),
    ("OPERATOR", "multiplier_differs", "network", lambda e: (e.op(O.ADD).params, "multiplier_a", 0.25)),
    ("SCALE", "multiplier_nan", "network", lambda e: (e.op(O.ADD).params, "multiplier_b", np.nan)),
    ("OPERATOR", "stride_zero", "network", lambda e: (e.op(O.CONV2D).params, "stride_h", 0)),
    ("OPERATOR", "dilation_zero", "network", lambda e: (e.op(O.CONV2D).params, "dilation_w", 0)),
    ("OPERATOR", "pad_changes_shape", "network", lambda e: (e.op(O.CONV2D).params, "pad_top", 2)),
    ("OPERATOR", "groups_zero", "network", lambda e: (e.op(O.CONV2D).params, "groups", 0)),
    ("OPERATOR", "groups_divide", "network", lambda e: (e.op(O.CONV2D).params, "groups", 3)),
    ("OPERATOR", "start_outside", "network", lambda e: (e.op(O.CONV2D).params, "start", 0xFFFFFFFC)),
    ("OPERATOR", "start_alignment", "network", lambda e: (e.op(O.CONV2D).params, "start", 2)),
    ("OPERATOR", "multipliers_outside", "network", lambda e: (e.op(O.CONV2D).params, "multiplier", len(e.sections[Section.WEIGHTS]) // 4 * 4)),
    ("OPERATOR", "pool_kernel_zero", "network", lambda e: (e.op(O.MAX_POOL).params, "kernel_h", 0)),
    ("OPERATOR", "pool_kernel_large", "network", lambda e: (e.op(O.MAX_POOL).params, "kernel_w", 9)),
    ("OPERATOR", "count_include_pad", "network", lambda e: (e.op(O.AVERAGE_POOL).params, "count_include_pad", 2)),
    ("OPERATOR", "softmax_table_outside", "network", lambda e: (e.op(O.SOFTMAX).params, "table", 0xFFFFFFFC)),
    ("OPERATOR", "perm_repeats", "network", lambda e: (e.op(O.QUANTIZE).params["perm"], 1, 0)),
    ("OPERATOR", "perm_behind_rank", "network", lambda e: (e.op(O.QUANTIZE).params["perm"], 5, 1)),
    ("OPERATOR", "raw_dtype", "network", lambda e: (e.op(O.QUANTIZE).params, "raw_dtype", 3)),
    ("OPERATOR", "raw_table_count", "network", lambda e: (e.op(O.QUANTIZE).params, "table_count", 3)),
    ("OPERATOR", "raw_table_axis", "network", lambda e: (e.op(O.QUANTIZE).params, "table_axis", 4)),
    ("OPERATOR", "raw_layout", "network", lambda e: (e.op(O.QUANTIZE).params, "raw_layout", 3)),
    ("OPERATOR", "raw_layout_other_axis", "network", lambda e: (e.op(O.QUANTIZE).params, "raw_layout", RawLayout.NCHW)),
    ("OPERATOR", "raw_layout_of_vector", "vectors", lambda e: (e.op(O.QUANTIZE).params, "raw_layout", RawLayout.NHWC)),
    ("OPERATOR", "raw_mean_without_table", "vectors", lambda e: (e.ops[1].params, "mean", 0)),
    ("OPERATOR", "raw_std_without_table", "vectors", lambda e: (e.ops[1].params, "std", 0)),
    ("OPERATOR", "raw_layout_without_table", "vectors", lambda e: (e.ops[1].params, "raw_layout", RawLayout.NCHW)),
    ("OPERATOR", "raw_reserved", "network", lambda e: (e.op(O.QUANTIZE).params, "reserved", 1)),
    ("OPERATOR", "raw_mean_missing", "network", lambda e: (e.op(O.QUANTIZE).params, "mean", schema.NO_INDEX)),
    ("OPERATOR", "raw_mean_alignment", "network", lambda e: (e.op(O.QUANTIZE).params, "mean", 2)),
    ("OPERATOR", "raw_std_outside", "network", lambda e: (e.op(O.QUANTIZE).params, "std", len(e.sections[Section.WEIGHTS]) // 4 * 4 - 4)),
    ("OPERATOR", "raw_std_wraps", "network", lambda e: (e.op(O.QUANTIZE).params, "std", 0xFFFFFFFC)),
    ("SCALE", "raw_mean_nan", "network", lambda e: (e.weights(e.op(O.QUANTIZE).params["mean"], "<f4", 2), 1, np.nan)),
    ("SCALE", "raw_mean_infinite", "network", lambda e: (e.weights(e.op(O.QUANTIZE).params["mean"], "<f4", 2), 0, -np.inf)),
    ("SCALE", "raw_std_zero", "network", lambda e: (e.weights(e.op(O.QUANTIZE).params["std"], "<f4", 2), 1, 0)),
    ("SCALE", "raw_std_negative", "network", lambda e: (e.weights(e.op(O.QUANTIZE).params["std"], "<f4", 2), 0, -64)),
    ("SCALE", "raw_std_nan", "network", lambda e: (e.weights(e.op(O.QUANTIZE).params["std"], "<f4", 2), 0, np.nan)),
    ("SCALE", "raw_std_too_small", "network", lambda e: (e.weights(e.op(O.QUANTIZE).params["std"], "<f4", 2), 1, 2.0**-97)),
    ("OPERATOR", "slice_start", "moves", lambda e: (e.op(O.SLICE).params["start"], 1, 5)),
    ("OPERATOR", "slice_step_zero", "moves", lambda e: (e.op(O.SLICE).params["step"], 1, 0)),
    ("OPERATOR", "slice_below_zero", "moves", lambda e: (e.op(O.SLICE).params["step"], 1, -3)),
    ("OPERATOR", "slice_step_behind_rank", "moves", lambda e: (e.op(O.SLICE).params["step"], 5, 0)),
    ("OPERATOR", "pad_before", "moves", lambda e: (e.op(O.PAD).params["before"], 1, 3)),
    ("OPERATOR", "pad_wraps", "moves", lambda e: (e.op(O.PAD).params["before"], 1, 0xFFFFFFFF)),
    ("OPERATOR", "pad_value", "moves", lambda e: (e.op(O.PAD).params, "value", -129)),
    ("OPERATOR", "concat_axis", "moves", lambda e: (e.op(O.CONCAT).params, "axis", 4)),
    ("OPERATOR", "concat_other_axis", "moves", lambda e: (e.op(O.CONCAT).params, "axis", 1)),
    ("OPERATOR", "resize_rows_outside", "moves", lambda e: (e.op(O.RESIZE_NEAREST).params, "rows", 0xFFFFFFFC)),
    ("OPERATOR", "lut_table_outside", "moves", lambda e: (e.op(O.LUT).params, "table", len(e.sections[Section.WEIGHTS]) // 4 * 4 - 252)),
    ("OPERATOR", "layer_norm_gain_outside", "layer_norm", lambda e: (e.op(O.LAYER_NORM).params, "gain", 0xFFFFFFFC)),
    ("OPERATOR", "layer_norm_offset_alignment", "layer_norm", lambda e: (e.op(O.LAYER_NORM).params, "offset", 2)),
    ("OPERATOR", "layer_norm_clamp", "layer_norm", lambda e: (e.op(O.LAYER_NORM).params, "hi", 128)),
    ("SCALE", "layer_norm_epsilon_zero", "layer_norm", lambda e: (e.op(O.LAYER_NORM).params, "epsilon", 0)),
    ("SCALE", "layer_norm_epsilon_nan", "layer_norm", lambda e: (e.op(O.LAYER_NORM).params, "epsilon", np.nan)),
    ("SCALE", "layer_norm_gain_nan", "layer_norm", lambda e: (e.weights(e.op(O.LAYER_NORM).params["gain"], "<f4", 1), 0, np.nan)),
    ("SCALE", "layer_norm_offset_infinite", "layer_norm", lambda e: (e.weights(e.op(O.LAYER_NORM).params["offset"], "<f4", 1), 0, -np.inf)),
    ("SCALE", "layer_norm_gain_subnormal", "layer_norm", lambda e: (e.weights(e.op(O.LAYER_NORM).params["gain"], "<f4", 1), 0, 2.0**-97)),
    ("OPERATOR", "matmul_transposed_plain", "matmul_transposed", lambda e: (e.op(O.MATMUL_TRANSPOSED).head, "opcode", O.MATMUL)),
    ("OPERATOR", "matmul_transposed_multiplier", "matmul_transposed", lambda e: (e.op(O.MATMUL_TRANSPOSED).params, "multiplier", 1.5)),
    ("SCALE", "prelu_infinite", "moves", lambda e: (e.weights(e.op(O.PRELU).params["negative"], "<f4", 9), 3, np.inf)),
    ("LIFETIME", "first_op", "network", lambda e: (_record(e, O.ADD, 0), "first_op", 0)),
    ("LIFETIME", "last_op_early", "network", lambda e: (_record(e, O.ADD, 0), "last_op", int(_record(e, O.ADD, 0)["last_op"][0]) - 1)),
    ("LIFETIME", "last_op_late", "network", lambda e: (_record(e, O.ADD, 0), "last_op", int(_record(e, O.ADD, 0)["last_op"][0]) + 1)),
    ("LIFETIME", "last_op_outside", "network", lambda e: (_record(e, O.ADD, 0), "last_op", 60000)),
    ("LIFETIME", "weights_first_op", "network", lambda e: (_record(e, O.DENSE, 1), "first_op", 1)),
    ("LIFETIME", "overlap", "network", lambda e: (_record(e, O.DEPTHWISE_CONV2D, -1), "offset", int(_record(e, O.DEPTHWISE_CONV2D, 0)["offset"][0]))),
    ("LIFETIME", "writes_input", "lut", lambda e: (e.op(O.LUT).tensors, 1, e.op(O.LUT).tensors[0])),
]:  # fmt: skip
    _set(_status, _what, _base, _pick)


def _section(data: bytes, section: Section, offset: int, size: int) -> bytes:
    header = np.frombuffer(data, schema.HEADER.dtype, 1).copy()[0]
    header["section"][2 * section] = int(header["section"][2 * section]) + offset
    header["section"][2 * section + 1] = int(header["section"][2 * section + 1]) + size
    return repair(header.tobytes() + data[header.nbytes :])


@refused("OPERATOR", "softmax_entry_above_first")
def _(edit: Edit) -> None:
    edit.weights(edit.op(O.SOFTMAX).params["table"], "<u4", 256)[9] = 2**31


@refused("OPERATOR", "softmax_first_zero")
def _(edit: Edit) -> None:
    edit.weights(edit.op(O.SOFTMAX).params["table"], "<u4", 256)[:] = 0


@refused("SCALE", "conv_multiplier_nan")
def _(edit: Edit) -> None:
    edit.weights(edit.op(O.CONV2D).params["multiplier"], "<f4", 8)[7] = np.nan


@refused("OPERATOR", "resize_index", "moves")
def _(edit: Edit) -> None:
    edit.weights(edit.op(O.RESIZE_NEAREST).params["rows"], "<u2", 4)[2] = 5


@refused("TENSOR", "interleaved_filling", "network_interleaved")
def _(edit: Edit) -> None:
    record = _record(edit, O.CONV2D, 1)[0]
    edit.weights(record["offset"], "i1", int(record["bytes"]))[-1] = 1


@refused("TENSOR", "paired_filling", "deep_paired")
def _(edit: Edit) -> None:
    edit.weights(_record(edit, O.DENSE, 1)[0]["offset"], "<i2", 8)[2] = 1


@refused("TENSOR", "paired_filling_of_depth", "deep_paired")
def _(edit: Edit) -> None:
    record = _record(edit, O.DENSE, 1)[0]
    edit.weights(record["offset"], "<i2", int(record["bytes"]) // 2)[-7] = 256


@refused("TENSOR", "paired_odd_128", "network_paired")
def _(edit: Edit) -> None:
    edit.weights(_record(edit, O.CONV2D, 1)[0]["offset"], "<i2", 8)[0] = 0x7FFF


@refused("TENSOR", "paired_sum", "deep_paired")
def _(edit: Edit) -> None:
    record = _record(edit, O.DENSE, 1)[0]
    edit.weights(record["offset"], "<i2", int(record["bytes"]) // 2)[-4] = 256


@refused("TENSOR", "sparse_table", "network_sparse")
def _(edit: Edit) -> None:
    edit.weights(_record(edit, O.CONV2D, 1)[0]["offset"], "<u4", 2)[0] += 1


@refused("TENSOR", "sparse_values_outside", "network_sparse")
def _(edit: Edit) -> None:
    edit.weights(_record(edit, O.CONV2D, 1)[0]["offset"], "<u4", 2)[1] = 2**31


@refused("TENSOR", "sparse_gap_beyond_tile", "network_sparse")
def _(edit: Edit) -> None:
    start, gaps = (int(v) for v in (_record(edit, O.CONV2D, 1)[0]["offset"], 8))
    edit.weights(start + gaps, "u1", 12)[:] = 0xFF


@refused("OPERATOR", "max_pool_window_in_padding", "max_pool")
def _(edit: Edit) -> None:
    """A window of one tap on a row of padding, with a shape that otherwise fits."""
    op = edit.op(O.MAX_POOL)
    x = edit.shape(edit.tensor(op, 0))
    for field in ("kernel_h", "kernel_w", "stride_h", "stride_w", "dilation_h", "dilation_w"):
        op.params[field] = 1
    for field in ("pad_left", "pad_right", "pad_bottom"):
        op.params[field] = 0
    op.params["pad_top"] = 1
    size = np.array([x[0], x[1] + 1, x[2], x[3]], np.uint32)
    edit.dims = np.concatenate([edit.dims, size])
    out = op.tensors[-1]
    edit.tensors[out]["dims"] = len(edit.dims) - 4
    edit.tensors[out]["bytes"] = int(np.prod(size))


def _choice(edit: Edit, index: int) -> np.ndarray:
    """A record in CHOICES."""
    return np.frombuffer(edit.sections[Section.CHOICES], schema.CHOICE.dtype)[index]


_set("OPERATOR", "choice_of_no_operator", "choices", lambda e: (_choice(e, -1), "op", len(e.ops)))
_set("OPERATOR", "choice_reserved", "choices", lambda e: (_choice(e, 0), "reserved", 1))
_set("OPERATOR", "choice_out_of_order", "choices", lambda e: (_choice(e, 0), "op", len(e.ops) - 1))
_set("OPERATOR", "choice_names_out_of_order", "choices", lambda e: (_choice(e, 0)["instead_of"], 0, ord("d")))


@refused("OPERATOR", "choice_twice", "choices")
def _(edit: Edit) -> None:
    records = edit.sections[Section.CHOICES]
    size = schema.CHOICE.dtype.itemsize
    edit.sections[Section.CHOICES] = records[:size] + records


@refused("HEADER", "choice_half", "choices")
def _(edit: Edit) -> None:
    del edit.sections[Section.CHOICES][-4:]


@refused("LIFETIME", "never_written")
def _(edit: Edit) -> None:
    del edit.ops[0]


@refused("HEADER", "no_operator")
def _(edit: Edit) -> None:
    edit.ops.clear()


@refused("LIFETIME", "states_overlap", "counter")
def _(edit: Edit) -> None:
    arena = edit.op(O.ADD).tensors[-1]
    edit.tensors[arena]["region"], edit.tensors[arena]["first_op"], edit.tensors[arena]["offset"] = (
        Region.STATE,
        0,
        0,
    )


def _on_bytes(files: dict[str, bytes]) -> Iterator[tuple[str, str, bytes]]:
    """Damage that the editor would repair."""
    data = files["network"]
    yield "MAGIC", "empty", b""
    yield "MAGIC", "text", b"\x89EKM\n\x1a\n" + data[7:]
    yield "TRUNCATED", "header_cut", data[:100]
    yield "TRUNCATED", "last_byte_missing", data[:-1]
    yield "VERSION", "major", repair(data[:8] + b"\x02" + data[9:])
    yield "CHECKSUM", "program", data[:200] + bytes([data[200] ^ 1]) + data[201:]
    yield "CHECKSUM", "weights", data[:-70] + bytes([data[-70] ^ 1]) + data[-69:]
    yield "HEADER", "section_overlaps", _section(data, Section.DIMS, -64, 0)
    yield "HEADER", "section_alignment", _section(data, Section.DIMS, 4, -4)
    yield "HEADER", "section_outside", _section(data, Section.WEIGHTS, 0, 1 << 20)
    yield "HEADER", "section_size_wraps", _section(data, Section.WEIGHTS, 0, 0xFFFFFF00 - len(data))
    yield "HEADER", "section_half_record", _section(data, Section.TENSORS, 0, -1)
    gap = int(np.frombuffer(data, schema.HEADER.dtype, 1)[0]["section"][0]) - 1
    yield "HEADER", "padding_not_zero", repair(data[:gap] + b"\x01" + data[gap + 1 :])


def refusals() -> Iterator[tuple[str, str, bytes]]:
    """Status, what is wrong, bytes."""
    files = dict(valid())
    yield from _on_bytes(files)
    for status, what, base, change in _CHANGES:
        edit = Edit(files[base])
        change(edit)
        yield status, what, edit.file()


def main() -> None:
    for folder in ("valid", "refuse"):
        shutil.rmtree(CORPUS / folder, ignore_errors=True)
        (CORPUS / folder).mkdir(parents=True)
    for name, data in valid():
        (CORPUS / "valid" / f"{name}.ekm").write_bytes(data)
    for status, what, data in refusals():
        (CORPUS / "refuse" / f"{status}-{what}.ekm").write_bytes(data)


if __name__ == "__main__":
    main()
