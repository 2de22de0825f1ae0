# SPDX-License-Identifier: Apache-2.0
"""The one description of the `.ekm` layout: constants, structs and opcodes.

`python -m edgekit.format.generate` regenerates everything that repeats it, the C header
`csrc/core/format.h` and the tables in `docs/FORMAT.md`; a test fails when either is stale.
The writer and the reader use the NumPy dtypes made here, so an offset exists only once.

All values are little-endian. A struct has no implicit padding: every field sits at a
multiple of its own size, which `Struct` asserts when this module is imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from functools import cached_property

import numpy as np

MAGIC = b"\x89EKM\r\n\x1a\n"
"""Not text (high bit), and broken by any newline translation or 7-bit transfer."""

VERSION_MAJOR = 1
"""A reader refuses a file whose major version differs."""
VERSION_MINOR = 0
"""Minor versions only add what `required_features` announces."""

SECTION_ALIGN = 64
MAX_RANK = 6
MAX_FILE_BYTES = 2**31 - 1
MAX_ARENA_BYTES = 2**31 - 1
NO_INDEX = 0xFFFFFFFF
NO_QUANT = 0xFFFF
ARENA_ALIGN = 16
"""Alignment of ARENA tensors in the arena."""
MAX_TILE_N = 64
MAX_TILE_K = 16
MAX_GAP_BITS = 8
MAX_DEPTH = 2**24
MAX_POOL_POSITIONS = 2**22
MAX_PADDED_ELEMENTS = 2**30
MAX_SOFTMAX_ENTRY = 2**24
MAX_NORM_DEPTH = 2**16
MAX_RECORDS = 65535
KERNEL_NAME_BYTES = 32

LIMITS = {
    "MAX_FILE_BYTES": "bytes of a file",
    "MAX_ARENA_BYTES": "bytes of the arena and of a tensor, and elements of a tensor",
    "MAX_RANK": "rank",
    "MAX_RECORDS": "tensors, and operators",
    "MAX_DEPTH": "weights of one output channel; keeps sizes of packed tiles and patches far from overflow",
    "MAX_POOL_POSITIONS": "positions in a pooling window; keeps its sum within int32",
    "MAX_PADDED_ELEMENTS": "rows, columns, and rows x columns x channels, of an image with its padding; keeps any position of a window, one stride beyond the padding included, within int32",
    "MAX_SOFTMAX_ENTRY": "entry of a SOFTMAX table; keeps its conversion to binary32 exact",
    "MAX_NORM_DEPTH": "last dimension of a LAYER_NORM; keeps n * q - sum(q) below 2^24 and n * sum(q * q) below 2^46",
    "MAX_TILE_N": "rows of a tile of weights",
    "MAX_TILE_K": "columns of an INTERLEAVED tile",
    "MAX_GAP_BITS": "bits of a gap",
    "KERNEL_NAME_BYTES": "bytes of a kernel's name",
    "PAIRED_SUM": "sum of the magnitudes of an odd channel's PAIRED weights; keeps its sums below 2^23",
}
"""What the limits mean; csrc/core/format.h has them as EK_FORMAT_<name>."""

SCALE_MIN = 2.0**-96
SCALE_MAX = 2.0**64
"""Every scale and every multiplier derived from scales lies in [SCALE_MIN, SCALE_MAX]."""


class Section(IntEnum):
    """Sections in file order. WEIGHTS and those behind it are not covered by the program checksum."""

    TENSORS = 0
    DIMS = 1
    """uint32 each; a tensor's dimensions stand in one run, equal runs may be shared."""
    QUANTS = 2
    OPS = 3
    SUBPROGRAMS = 4
    """Empty where the operators are one program."""
    IOS = 5
    STRINGS = 6
    DEBUG = 7
    WEIGHTS = 8
    STATE = 9
    CHOICES = 10
    """Which kernels measured faster than a runtime's own choice; it may ignore them."""


SECTION_SLOTS = 12
"""Slots in the header's section table; those without a `Section` are zero."""


class Dtype(IntEnum):
    I8 = 1
    U8 = 2
    I16 = 3
    I32 = 4
    I64 = 5
    F32 = 6
    I4 = 7
    I2 = 8
    I1 = 9


DTYPE_BITS = {
    Dtype.I8: 8,
    Dtype.U8: 8,
    Dtype.I16: 16,
    Dtype.I32: 32,
    Dtype.I64: 64,
    Dtype.F32: 32,
    Dtype.I4: 4,
    Dtype.I2: 2,
    Dtype.I1: 1,
}


class Region(IntEnum):
    """Where a tensor's bytes live."""

    IO = 0
    """The caller's buffer; `offset` is the index in the IOS section."""
    ARENA = 1
    """Scratch of one run; the planner's offset."""
    STATE = 2
    """Kept from run to run, with initial values in the STATE section."""
    READONLY = 3
    """The WEIGHTS section of the file itself."""


class Encoding(IntEnum):
    """How the elements of a READONLY tensor are stored."""

    DENSE = 0
    """Row-major, canonical order."""
    INTERLEAVED = 1
    """[N/tile_n][K/tile_k][tile_n][tile_k], zero-filled, for a matrix of N output channels
    by K = product of the other dimensions."""
    SPARSE = 2
    """Zeros left out: a table of `sparse_tile`, gaps of `gap_bits` bits, values; see
    docs/FORMAT.md, chapter Sparse weights."""
    CODEBOOK = 3
    """Reserved: indexes into a table of values."""
    PAIRED = 4
    """Two channels in one 16-bit number, 256 * odd + even, in tiles of PAIRED_TILE channels by as many values;
    see docs/FORMAT.md, chapter Paired weights."""


PAIRED_TILE = 4
PAIRED_SUM = 65535
WEIGHTS_ALIGN = {Encoding.DENSE: 16, Encoding.INTERLEAVED: 64, Encoding.SPARSE: 4, Encoding.PAIRED: 16}
"""Alignment in WEIGHTS of a READONLY tensor by encoding; arrays that parameters point at have 4."""


class Granularity(IntEnum):
    """What one scale and zero point of a quantization record covers."""

    TENSOR = 0
    AXIS = 1
    GROUP = 2


class RawLayout(IntEnum):
    """The order of dimensions of raw data, by name."""

    NONE = 0
    """No image, or an order without a name."""
    NCHW = 1
    NHWC = 2


class Feature(IntFlag):
    """Bits of `required_features`: what a reader must know to run the file."""

    INTERLEAVED_WEIGHTS = 1 << 0
    SPARSE_WEIGHTS = 1 << 1
    CODEBOOK_WEIGHTS = 1 << 2
    STATE = 1 << 3
    SUBPROGRAMS = 1 << 4
    INT16_ACTIVATIONS = 1 << 5
    SUB_BYTE_WEIGHTS = 1 << 6
    FLOAT_OPERATORS = 1 << 7
    GROUP_QUANTIZATION = 1 << 8
    INT64_TENSORS = 1 << 9
    PAIRED_WEIGHTS = 1 << 10


class Opcode(IntEnum):
    QUANTIZE = 1
    DEQUANTIZE = 2
    CONV2D = 3
    DEPTHWISE_CONV2D = 4
    DENSE = 5
    MATMUL = 6
    ADD = 7
    MUL = 8
    MAX_POOL = 9
    AVERAGE_POOL = 10
    LUT = 11
    PRELU = 12
    SOFTMAX = 13
    RESHAPE = 14
    TRANSPOSE = 15
    SLICE = 16
    PAD = 17
    CONCAT = 18
    RESIZE_NEAREST = 19
    CALL = 20
    LAYER_NORM = 21
    MATMUL_TRANSPOSED = 22


@dataclass(frozen=True)
class Operands:
    """The inputs of an operator; its output is always one.

    Attributes:
        least, most: how many inputs there are.
        inplace: inputs whose memory the output may take over exactly, if that input dies there and has the
            output's size.
    """

    least: int = 1
    most: int = 1
    inplace: tuple[int, ...] = ()


OPERANDS: dict[Opcode, Operands] = {
    Opcode.QUANTIZE: Operands(),
    Opcode.DEQUANTIZE: Operands(),
    Opcode.CONV2D: Operands(2, 2),
    Opcode.DEPTHWISE_CONV2D: Operands(2, 2),
    Opcode.DENSE: Operands(2, 2),
    Opcode.MATMUL: Operands(2, 2),
    Opcode.ADD: Operands(2, 2, inplace=(0, 1)),
    Opcode.MUL: Operands(2, 2, inplace=(0, 1)),
    Opcode.MAX_POOL: Operands(),
    Opcode.AVERAGE_POOL: Operands(),
    Opcode.LUT: Operands(inplace=(0,)),
    Opcode.PRELU: Operands(inplace=(0,)),
    Opcode.SOFTMAX: Operands(inplace=(0,)),
    Opcode.RESHAPE: Operands(inplace=(0,)),
    Opcode.TRANSPOSE: Operands(),
    Opcode.SLICE: Operands(),
    Opcode.PAD: Operands(),
    Opcode.CONCAT: Operands(1, 255),
    Opcode.RESIZE_NEAREST: Operands(),
    Opcode.LAYER_NORM: Operands(inplace=(0,)),
    Opcode.MATMUL_TRANSPOSED: Operands(2, 2),
}
"""Of every opcode that is laid out; CALL's are still to come."""


@dataclass(frozen=True)
class Field:
    """One member of a struct: C type without the `_t`, name, array length (0 for a scalar), meaning."""

    ctype: str
    name: str
    doc: str
    count: int = 0


_NUMPY = {
    "uint8": "u1", "int8": "i1", "uint16": "<u2", "int16": "<i2",
    "uint32": "<u4", "int32": "<i4", "uint64": "<u8", "float": "<f4",
}  # fmt: skip


@dataclass(frozen=True)
class Struct:
    """A packed little-endian struct; `name` is its C name without the `ek_` prefix."""

    name: str
    doc: str
    fields: tuple[Field, ...]

    def __post_init__(self) -> None:
        offset = 0
        for field in self.fields:
            size = np.dtype(_NUMPY[field.ctype]).itemsize
            assert offset % size == 0, f"{self.name}.{field.name} is misaligned at {offset}"
            offset += size * max(field.count, 1)
        assert offset % 4 == 0, f"{self.name} is {offset} bytes, not a multiple of 4"

    @cached_property
    def dtype(self) -> np.dtype:
        """The NumPy structured dtype of one record."""
        return np.dtype(
            [
                (f.name, _NUMPY[f.ctype], (f.count,)) if f.count else (f.name, _NUMPY[f.ctype])
                for f in self.fields
            ]
        )

    def offset(self, name: str) -> int:
        """Byte offset of a field."""
        fields = self.dtype.fields
        assert fields is not None
        return fields[name][1]


HEADER = Struct(
    "file_header",
    "The first bytes of every file.",
    (
        Field("uint8", "magic", "89 45 4B 4D 0D 0A 1A 0A", 8),
        Field("uint16", "version_major", "1"),
        Field("uint16", "version_minor", "0"),
        Field("uint32", "program_checksum", "CRC-32 of bytes [0, program_bytes) with this field zero"),
        Field("uint32", "weights_checksum", "CRC-32 of bytes [program_bytes, file_bytes)"),
        Field("uint32", "file_bytes", "size of the whole file, at most 2^31 - 1"),
        Field("uint64", "required_features", "bitmap of `Feature`; a reader refuses a bit it does not know"),
        Field("uint32", "program_bytes", "offset of the first byte that the program checksum leaves out; a multiple of 64"),
        Field("uint32", "arena_bytes", "size of the ARENA region, at most 2^31 - 1"),
        Field("uint32", "state_bytes", "size of the STATE region"),
        Field("uint32", "reserved", "zero", 3),
        Field("uint32", "section", "pairs of offset and size in bytes, indexed by `Section`; offsets are multiples of 64", 2 * SECTION_SLOTS),
    ),
)  # fmt: skip

TENSOR = Struct(
    "tensor_record",
    "One tensor of the program.",
    (
        Field("uint8", "dtype", "`Dtype`"),
        Field("uint8", "rank", "0 to 6"),
        Field("uint8", "region", "`Region`"),
        Field("uint8", "encoding", "`Encoding`; DENSE outside READONLY"),
        Field("uint8", "tile_n", "INTERLEAVED: channels of a tile, a power of two up to 64; SPARSE: rows of a tile, a power of two up to 64, or 0 for one tile; PAIRED: 4; else 0"),
        Field("uint8", "tile_k", "INTERLEAVED: depth of a tile, a power of two up to 16; SPARSE: bits of a gap, 1 to 8; PAIRED: 4; else 0"),
        Field("uint16", "quant", "index in QUANTS, or 0xFFFF"),
        Field("uint16", "first_op", "index of the operator that writes it; 0 for READONLY, STATE and inputs"),
        Field("uint16", "last_op", "index of the last operator that reads it, `first_op` if none does; for an output, the last operator"),
        Field("uint32", "offset", "in its region; IO: index in IOS"),
        Field("uint32", "bytes", "stored size"),
        Field("uint32", "dims", "index in DIMS of the outermost of `rank` dimensions, none of them zero; 0 for rank 0"),
    ),
)  # fmt: skip

QUANT = Struct(
    "quant_record",
    "Scales and zero points: real = scale * (q - zero_point).",
    (
        Field("uint8", "granularity", "`Granularity`"),
        Field("uint8", "axis", "AXIS and GROUP: the dimension the scales run along; else 0"),
        Field("uint16", "group", "GROUP: elements along `axis` that share a scale; else 0"),
        Field("float", "scale", "TENSOR: the scale; else 0"),
        Field("int32", "zero_point", "TENSOR: the zero point; else 0"),
        Field("uint32", "scales", "AXIS, GROUP: offset in WEIGHTS of the float32 scales, behind them as many int32 zero points; else 0xFFFFFFFF"),
    ),
)  # fmt: skip

SPARSE_TILE = Struct(
    "sparse_tile",
    "One tile of a SPARSE tensor. Offsets count from the tensor's first byte, which begins the table of "
    "tiles; a tile ends where the next one begins, the last one's gaps at the first values, its values "
    "at the tensor's end.",
    (
        Field("uint32", "gaps", "offset of the first byte of gaps"),
        Field("uint32", "values", "offset of the first value"),
    ),
)

SUBPROGRAM = Struct(
    "subprogram_record",
    "A run of operators; number 0 is the model. Without records all operators are the model.",
    (
        Field("uint32", "first_op", "index of the first operator"),
        Field("uint32", "op_count", "number of operators"),
        Field("uint32", "repeat", "how many times a CALL runs it"),
        Field("uint32", "reserved", "zero"),
    ),
)

IO = Struct(
    "io_record",
    "One named input or output, inputs first, in the model's order.",
    (
        Field("uint32", "name", "offset in STRINGS of the zero-terminated UTF-8 name"),
        Field("uint16", "tensor", "index of its tensor, in region IO"),
        Field("uint8", "output", "0 input, 1 output"),
        Field("uint8", "reserved", "zero"),
    ),
)

CHOICE = Struct(
    "choice_record",
    "A kernel that measured faster than another one on an operator. Names are ASCII, filled with zeros.",
    (
        Field("uint16", "op", "index of the operator"),
        Field("uint16", "reserved", "zero"),
        Field("uint8", "instead_of", "name of the kernel that the runtime would take by itself", KERNEL_NAME_BYTES),
        Field("uint8", "kernel", "name of the kernel to take in its place", KERNEL_NAME_BYTES),
    ),
)

OP_HEADER = Struct(
    "op_record",
    "Head of an operator record. Behind it stand n_inputs + n_outputs uint16 tensor indexes, "
    "padded with zero to a multiple of 4 bytes, then the opcode's parameters.",
    (
        Field("uint16", "bytes", "whole record, a multiple of 4"),
        Field("uint8", "opcode", "`Opcode`"),
        Field("uint8", "version", "of the parameters, 1"),
        Field("uint8", "n_inputs", "input tensors"),
        Field("uint8", "n_outputs", "output tensors"),
        Field("uint16", "reserved", "zero"),
    ),
)

_CLAMP = (
    Field("int32", "lo", "lowest output value"),
    Field("int32", "hi", "highest output value, at least `lo`"),
)
_WINDOW = (
    Field("uint16", "stride_h", "rows between windows, at least 1"),
    Field("uint16", "stride_w", "columns between windows, at least 1"),
    Field("uint16", "dilation_h", "rows between taps, at least 1"),
    Field("uint16", "dilation_w", "columns between taps, at least 1"),
    Field("uint16", "pad_top", "rows of padding"),
    Field("uint16", "pad_left", "columns of padding"),
    Field("uint16", "pad_bottom", "rows of padding"),
    Field("uint16", "pad_right", "columns of padding"),
)
_ACCUMULATE = (
    Field("uint32", "start", "int32 per output channel, offset in WEIGHTS: bias - x_zero * sum of the channel's weights"),
    Field("uint32", "multiplier", "float32 per output channel, offset in WEIGHTS"),
)  # fmt: skip

_PRODUCT = (Field("float", "multiplier", "f32(f32(sa * sb) / sy)"), *_CLAMP)

OP_PARAMS: dict[Opcode, Struct] = {
    Opcode.QUANTIZE: Struct(
        "quantize_record",
        "Input 0 the caller's float32 array, output 0 the int8 tensor. Output dimension i is the array's "
        "dimension perm[i]. A caller may bind raw 8-bit data instead, whose dimension raw_perm[i] is "
        "output dimension i and which becomes the output by a table of 256 int8 per channel. What the table "
        "was made from is recorded beside it: the model's own input is f32(f32(raw - mean) / std).",
        (
            Field("uint8", "perm", "float32 layout", MAX_RANK),
            Field("uint8", "raw_perm", "raw layout", MAX_RANK),
            Field("uint8", "raw_dtype", "I8 or U8, or 0 where no table is recorded"),
            Field("uint8", "table_axis", "output dimension that selects the table, and mean and std"),
            Field("uint8", "raw_layout", "`RawLayout`; not NONE only where the rank is 4"),
            Field("uint8", "reserved", "zero"),
            Field("uint32", "table_count", "1, or the size of dimension `table_axis`"),
            Field("uint32", "table", "offset in WEIGHTS of int8[table_count][256], indexed by the raw byte (I8: value + 128)"),
            Field("uint32", "mean", "offset in WEIGHTS of float32[table_count], finite"),
            Field("uint32", "std", "offset in WEIGHTS of float32[table_count], scales: from 2^-96 to 2^64"),
        ),
    ),
    Opcode.DEQUANTIZE: Struct(
        "dequantize_record",
        "Input 0 the int8 tensor, output 0 the caller's float32 array, whose dimension i is input dimension perm[i].",
        (Field("uint8", "perm", "layout", MAX_RANK), Field("uint16", "reserved", "zero")),
    ),
    Opcode.CONV2D: Struct(
        "conv2d_record",
        "x[N,H,W,C], w[O,KH,KW,C/groups] -> y[N,OH,OW,O].",
        (*_ACCUMULATE, *_WINDOW, Field("uint32", "groups", "divides C and O"), *_CLAMP),
    ),
    Opcode.DEPTHWISE_CONV2D: Struct(
        "depthwise_conv2d_record",
        "x[N,H,W,C], w[KH,KW,O] -> y[N,OH,OW,O]; O is a multiple of C and output channel o reads input channel o / (O / C).",
        (*_ACCUMULATE, *_WINDOW, *_CLAMP),
    ),
    Opcode.DENSE: Struct(
        "dense_record",
        "x[..., K], w[O, K] -> y[..., O].",
        (*_ACCUMULATE, *_CLAMP),
    ),
    Opcode.MATMUL: Struct(
        "matmul_record",
        "a[..., M, K], b[..., K, N] -> y[..., M, N], both activations; batch dimensions are equal, or 1 in b.",
        _PRODUCT,
    ),
    Opcode.MATMUL_TRANSPOSED: Struct(
        "matmul_transposed_record",
        "a[..., M, K], b[..., N, K] -> y[..., M, N]: MATMUL with the rows of b as columns of the second factor.",
        _PRODUCT,
    ),
    Opcode.ADD: Struct(
        "add_record",
        "a, b -> y with NumPy broadcasting to y; subtraction is a negative multiplier_b.",
        (
            Field("float", "multiplier_a", "f32(sa / sy)"),
            Field("float", "multiplier_b", "f32(sb / sy), negated to subtract"),
            *_CLAMP,
        ),
    ),
    Opcode.MUL: Struct(
        "mul_record",
        "a, b -> y with NumPy broadcasting to y.",
        _PRODUCT,
    ),
    Opcode.MAX_POOL: Struct(
        "max_pool_record",
        "x[N,H,W,C] -> y[N,OH,OW,C]; padding is ignored.",
        (
            Field("uint16", "kernel_h", "rows of the window"),
            Field("uint16", "kernel_w", "columns of the window"),
            *_WINDOW,
        ),
    ),
    Opcode.AVERAGE_POOL: Struct(
        "average_pool_record",
        "x[N,H,W,C] -> y[N,OH,OW,C]; n counts the window's positions inside the input, and with "
        "count_include_pad those inside input and padding.",
        (
            Field("uint16", "kernel_h", "rows of the window"),
            Field("uint16", "kernel_w", "columns of the window"),
            *_WINDOW,
            Field("uint32", "count_include_pad", "0 or 1"),
            *_CLAMP,
        ),
    ),
    Opcode.LUT: Struct(
        "lut_record",
        "y = table[x + 128].",
        (Field("uint32", "table", "int8[256], offset in WEIGHTS"),),
    ),
    Opcode.PRELU: Struct(
        "prelu_record",
        "x[..., C] -> y[..., C].",
        (
            Field("float", "multiplier", "f32(sx / sy), for q >= zx"),
            Field("uint32", "negative", "float32 per channel f32(f32(sx * slope) / sy), any sign or zero, offset in WEIGHTS"),
            *_CLAMP,
        ),
    ),
    Opcode.SOFTMAX: Struct(
        "softmax_record",
        "Over the last dimension. t = table[max - q]; k = f32(inverse_scale / f32(sum t)); "
        "y = sat(rne(f32(f32(t) * k)) + zy).",
        (
            Field("uint32", "table", "uint32[256], offset in WEIGHTS; table[0] * (last dimension) below 2^31, none above table[0], at most 2^24"),
            Field("float", "inverse_scale", "f32(1 / sy)"),
            *_CLAMP,
        ),
    ),
    Opcode.LAYER_NORM: Struct(
        "layer_norm_record",
        "Over the last dimension, of length n. d = n * q - sum(q); v = n * sum(q * q) - sum(q)^2; "
        "k = f32(1 / f32(sqrt(f32(f32(v) + epsilon)))); "
        "y = sat(rne(f32(f32(f32(f32(d) * k) * gain) + offset)) + zy).",
        (
            Field("float", "epsilon", "f32(eps * (n / sx)^2), a scale: from 2^-96 to 2^64"),
            Field("uint32", "gain", "float32[n], f32(gamma / sy), offset in WEIGHTS; each is zero or has a scale as magnitude"),
            Field("uint32", "offset", "float32[n], f32(beta / sy), offset in WEIGHTS; each is zero or has a scale as magnitude"),
            *_CLAMP,
        ),
    ),
    Opcode.RESHAPE: Struct("reshape_record", "The same elements in the same order.", ()),
    Opcode.TRANSPOSE: Struct(
        "transpose_record",
        "Output dimension i is input dimension perm[i].",
        (Field("uint8", "perm", "a permutation of the rank", MAX_RANK), Field("uint16", "reserved", "zero")),
    ),
    Opcode.SLICE: Struct(
        "slice_record",
        "y[i] = x[start + i * step] in every dimension.",
        (
            Field("int32", "start", "first index", MAX_RANK),
            Field("int32", "step", "not zero; 1 behind the rank", MAX_RANK),
        ),
    ),
    Opcode.PAD: Struct(
        "pad_record",
        "Constant padding.",
        (
            Field("uint32", "before", "elements in front, per dimension", MAX_RANK),
            Field("int32", "value", "the quantized constant"),
        ),
    ),
    Opcode.CONCAT: Struct(
        "concat_record",
        "All inputs along `axis`; scales are equal.",
        (Field("uint32", "axis", "dimension"),),
    ),
    Opcode.RESIZE_NEAREST: Struct(
        "resize_nearest_record",
        "y[n,i,j,c] = x[n,rows[i],cols[j],c].",
        (
            Field("uint32", "rows", "uint16 per output row, offset in WEIGHTS"),
            Field("uint32", "cols", "uint16 per output column, offset in WEIGHTS"),
        ),
    ),
    Opcode.CALL: Struct(
        "call_record",
        "Runs a subprogram its `repeat` times.",
        (Field("uint32", "subprogram", "index, not 0"),),
    ),
}  # fmt: skip
