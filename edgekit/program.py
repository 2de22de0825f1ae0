# SPDX-License-Identifier: Apache-2.0
"""The integer program: what a `.ekm` file says, as Python objects.

`quantize` makes a `Program`, `plan` places its tensors, `format` writes and reads it,
`reference` executes it, `export` spells it as ONNX. Operators mirror `format.schema.Opcode`
one to one; docs/ARITHMETIC.md defines what each computes. Weights are canonical here,
whatever encoding the file uses.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from edgekit.format.schema import DTYPE_BITS, OPERANDS, Dtype, Opcode, RawLayout, Region

Pair = tuple[int, int]
Pads = tuple[int, int, int, int]
"""top, left, bottom, right"""


@dataclass(frozen=True)
class Quant:
    """Per-tensor quantization: real = scale * (q - zero_point). `scale` is a binary32."""

    scale: np.float32
    zero_point: int


@dataclass
class Tensor:
    """A tensor of the program.

    Constants have `data` (canonical order) and region READONLY. `offset` is the planner's
    byte offset of an ARENA tensor, the index in inputs + outputs of an IO tensor. `source` and
    `source_perm` are those of `graph.Value`; they are not stored in the file.
    """

    name: str
    shape: tuple[int, ...]
    dtype: Dtype = Dtype.I8
    quant: Quant | None = None
    region: Region = Region.ARENA
    data: np.ndarray | None = None
    offset: int | None = None
    source: str | None = None
    source_perm: tuple[int, ...] | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass
class Op:
    """One operator; `inputs` and `outputs` name tensors, `name` the ONNX node it came from."""

    opcode: ClassVar[Opcode]

    name: str
    inputs: list[str]
    outputs: list[str]

    @property
    def inplace(self) -> tuple[int, ...]:
        """Inputs whose memory the output may take over exactly, if that input dies here and has the
        output's size."""
        return OPERANDS[self.opcode].inplace


@dataclass
class Quantize(Op):
    """float32 `x` of the caller -> int8. Output dimension i is dimension perm[i] of the caller's array.

    The other fields say how raw 8-bit data becomes the same tensor; all are None where that is not recorded.

    Attributes:
        raw_dtype: I8 or U8.
        raw_perm: output dimension i is dimension raw_perm[i] of the raw array.
        raw_layout: the name of that order, where it has one.
        raw_table: int8[1 or C][256], from a raw byte to the tensor.
        raw_mean, raw_std: float32[1 or C] like the table, which was made from them: `x` is
            f32(f32(raw - mean) / std).
        table_axis: output dimension that selects the table, where there are several.
    """

    opcode = Opcode.QUANTIZE
    perm: tuple[int, ...]
    raw_dtype: Dtype | None = None
    raw_perm: tuple[int, ...] | None = None
    raw_table: np.ndarray | None = None
    table_axis: int = 0
    raw_mean: np.ndarray | None = None
    raw_std: np.ndarray | None = None
    raw_layout: RawLayout = RawLayout.NONE


@dataclass
class Dequantize(Op):
    """int8 -> float32 of the caller; array dimension i is tensor dimension perm[i]."""

    opcode = Opcode.DEQUANTIZE
    perm: tuple[int, ...]


@dataclass
class Accumulate(Op):
    """What conv, depthwise conv and dense share. inputs: x, w (int8 constant).

    Attributes:
        bias: int32[O], scale sx * weight_scale.
        weight_scale: float32[O].
        lo, hi: output clamp, int8.
    """

    bias: np.ndarray
    weight_scale: np.ndarray
    lo: int
    hi: int


@dataclass
class Conv2D(Accumulate):
    """x[N,H,W,C], w[O,KH,KW,C/groups] -> y[N,OH,OW,O]."""

    opcode = Opcode.CONV2D
    strides: Pair = (1, 1)
    dilations: Pair = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    groups: int = 1


@dataclass
class DepthwiseConv2D(Accumulate):
    """x[N,H,W,C], w[KH,KW,O] -> y[N,OH,OW,O]; output channel o reads input channel o // (O // C)."""

    opcode = Opcode.DEPTHWISE_CONV2D
    strides: Pair = (1, 1)
    dilations: Pair = (1, 1)
    pads: Pads = (0, 0, 0, 0)


@dataclass
class Dense(Accumulate):
    """x[...,K], w[O,K] -> y[...,O]."""

    opcode = Opcode.DENSE


@dataclass
class MatMul(Op):
    """a[...,M,K], b[...,K,N], two activations -> y[...,M,N]."""

    opcode = Opcode.MATMUL
    lo: int
    hi: int


@dataclass
class MatMulTransposed(MatMul):
    """a[...,M,K], b[...,N,K], two activations -> y[...,M,N]."""

    opcode = Opcode.MATMUL_TRANSPOSED


@dataclass
class Add(Op):
    """a + b, or a - b with `subtract`, broadcast to y."""

    opcode = Opcode.ADD
    lo: int
    hi: int
    subtract: bool = False


@dataclass
class Mul(Op):
    """a * b, broadcast to y."""

    opcode = Opcode.MUL
    lo: int
    hi: int


@dataclass
class MaxPool(Op):
    """x[N,H,W,C]; padding is ignored; the scale is kept."""

    opcode = Opcode.MAX_POOL
    kernel: Pair
    strides: Pair = (1, 1)
    dilations: Pair = (1, 1)
    pads: Pads = (0, 0, 0, 0)


@dataclass
class AveragePool(Op):
    """x[N,H,W,C]; the divisor counts positions inside the input (and padding, if asked)."""

    opcode = Opcode.AVERAGE_POOL
    kernel: Pair
    lo: int
    hi: int
    strides: Pair = (1, 1)
    dilations: Pair = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    count_include_pad: bool = False


@dataclass
class Lut(Op):
    """y = table[x + 128], int8[256]."""

    opcode = Opcode.LUT
    table: np.ndarray


@dataclass
class PRelu(Op):
    """x[...,C]; `slope` float32[C]."""

    opcode = Opcode.PRELU
    slope: np.ndarray
    lo: int
    hi: int


@dataclass
class Softmax(Op):
    """Over the last dimension; `table` uint32[256] of scaled exp(-sx * d)."""

    opcode = Opcode.SOFTMAX
    table: np.ndarray
    lo: int = -128
    hi: int = 127


@dataclass
class LayerNorm(Op):
    """Over the last dimension, of n elements.

    Attributes:
        epsilon: float32, added to the variance in units of (sx / n)^2.
        gain, offset: float32[n], in units of the output's scale.
    """

    opcode = Opcode.LAYER_NORM
    epsilon: np.float32
    gain: np.ndarray
    offset: np.ndarray
    lo: int = -128
    hi: int = 127


@dataclass
class Reshape(Op):
    """The same bytes under another shape."""

    opcode = Opcode.RESHAPE


@dataclass
class Transpose(Op):
    """Output dimension i is input dimension perm[i]."""

    opcode = Opcode.TRANSPOSE
    perm: tuple[int, ...]


@dataclass
class Slice(Op):
    """y[i] = x[start + i * step] in every dimension."""

    opcode = Opcode.SLICE
    starts: tuple[int, ...]
    steps: tuple[int, ...]


@dataclass
class Pad(Op):
    """Constant padding; `value` is quantized."""

    opcode = Opcode.PAD
    before: tuple[int, ...]
    value: int


@dataclass
class Concat(Op):
    """All inputs have y's scale."""

    opcode = Opcode.CONCAT
    axis: int


@dataclass
class ResizeNearest(Op):
    """y[n,i,j,c] = x[n, rows[i], cols[j], c]."""

    opcode = Opcode.RESIZE_NEAREST
    rows: np.ndarray
    cols: np.ndarray


OP_CLASSES: dict[Opcode, type[Op]] = {
    cls.opcode: cls
    for cls in (
        Quantize, Dequantize, Conv2D, DepthwiseConv2D, Dense, MatMul, Add, Mul, MaxPool,
        AveragePool, Lut, PRelu, Softmax, Reshape, Transpose, Slice, Pad, Concat, ResizeNearest,
        LayerNorm, MatMulTransposed,
    )
}  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """A kernel that measured faster than the one a runtime would take by itself.

    Attributes:
        op: index of the operator in `Program.ops`.
        instead_of: the kernel that the runtime would take; with another one, the choice does not count.
        kernel: the one to take, if it may be used and computes the operator.
    """

    op: int
    instead_of: str
    kernel: str


@dataclass
class Program:
    """A quantized model.

    `inputs` and `outputs` name the tensors of region IO in the model's order; a tensor's name is
    the public name of the port. With quantized I/O they are int8 and no Quantize or Dequantize
    stands beside them. `choices` change how fast a runtime is and nothing else.
    """

    name: str
    tensors: dict[str, Tensor] = field(default_factory=dict)
    ops: list[Op] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    arena_bytes: int = 0
    choices: list[Choice] = field(default_factory=list)

    def add(self, tensor: Tensor) -> Tensor:
        """Registers `tensor` under its name, which must be new."""
        assert tensor.name not in self.tensors, tensor.name
        self.tensors[tensor.name] = tensor
        return tensor

    def quantized(self) -> Iterator[Tensor]:
        """The 8-bit activations that an operator writes, in order: what `verify` compares."""
        for op in self.ops:
            for name in op.outputs:
                if self.tensors[name].dtype in (Dtype.I8, Dtype.U8):
                    yield self.tensors[name]


def scale(program: Program, name: str) -> np.float32:
    """The scale of a quantized tensor."""
    quant = program.tensors[name].quant
    assert quant is not None, f"{name} has no scale"
    return np.float32(quant.scale)


def multiplier(program: Program, op: Accumulate) -> np.ndarray:
    """`m[c] = f32(f32(sx * sw[c]) / sy)`, float32[O]."""
    sx, sy = scale(program, op.inputs[0]), scale(program, op.outputs[0])
    return (sx * op.weight_scale.astype(np.float32)) / sy


def sum_multipliers(program: Program, op: Add) -> tuple[np.float32, np.float32]:
    """`f32(sa / sy)` and `f32(sb / sy)`, the second negated to subtract."""
    sa, sb, sy = (scale(program, t) for t in (*op.inputs, *op.outputs))
    return sa / sy, -(sb / sy) if op.subtract else sb / sy


def product_multiplier(program: Program, op: MatMul | Mul) -> np.float32:
    """`f32(f32(sa * sb) / sy)`."""
    sa, sb, sy = (scale(program, t) for t in (*op.inputs, *op.outputs))
    return (sa * sb) / sy


def prelu_multipliers(program: Program, op: PRelu) -> tuple[np.float32, np.ndarray]:
    """`f32(sx / sy)` and float32[C] `f32(f32(sx * slope) / sy)`."""
    sx, sy = (scale(program, t) for t in (*op.inputs, *op.outputs))
    return sx / sy, (sx * op.slope.astype(np.float32)) / sy


def inverse_scale(program: Program, op: Softmax) -> np.float32:
    """`f32(1 / sy)`."""
    return np.float32(1) / scale(program, op.outputs[0])


def weight_sums(opcode: Opcode, weights: np.ndarray) -> np.ndarray:
    """Sum of each output channel's weights, int64[O], for an operator of that kind."""
    axes = (0, 1) if opcode == Opcode.DEPTHWISE_CONV2D else tuple(range(1, weights.ndim))
    return weights.sum(axis=axes, dtype=np.int64)


def start_values(program: Program, op: Accumulate) -> np.ndarray:
    """`bias - x_zero * sum(w)` per output channel, int32[O], wrapped: what an accumulator begins with
    when the sum runs over x * w instead of (x - x_zero) * w."""
    quant, weights = program.tensors[op.inputs[0]].quant, program.tensors[op.inputs[1]].data
    assert quant is not None and weights is not None, op.name
    start = op.bias.astype(np.int64) - quant.zero_point * weight_sums(op.opcode, weights)
    return start.astype(np.uint32).view(np.int32)


def lifetimes(program: Program) -> dict[str, tuple[int, int]]:
    """First and last operator index of every tensor, both inclusive, as a `.ekm` file records them.

    The first is the operator that writes the tensor, 0 where none does. The last is the last that
    reads it, the first if none does, and the last operator of the program for a model output.
    """
    written: dict[str, int] = {}
    read: dict[str, int] = {}
    for index, op in enumerate(program.ops):
        read.update(dict.fromkeys(op.inputs, index))
        written.update(dict.fromkeys(op.outputs, index))
    read.update(dict.fromkeys(program.outputs, len(program.ops) - 1))
    return {
        name: (written.get(name, 0), max(read.get(name, 0), written.get(name, 0))) for name in program.tensors
    }


def tensor_bytes(tensor: Tensor) -> int:
    """Unpadded size in bytes; sub-byte elements are packed."""
    return (tensor.size * DTYPE_BITS[tensor.dtype] + 7) // 8


def inplace_inputs(program: Program, index: int, lives: dict[str, tuple[int, int]]) -> list[str]:
    """The inputs whose memory operator `index` may overwrite with its output, exactly.

    Such an input is an ARENA tensor that dies here and has as many bytes as the output. Each output element
    then depends on that input's element at the same place, also where the operator broadcasts.
    """
    op = program.ops[index]
    if not op.inplace:
        return []
    out = program.tensors[op.outputs[0]]
    return [
        name
        for name in dict.fromkeys(op.inputs[i] for i in op.inplace)
        if out.region == Region.ARENA
        and (tensor := program.tensors[name]).region == Region.ARENA
        and lives[name][1] == index
        and tensor_bytes(tensor) == tensor_bytes(out)
    ]
