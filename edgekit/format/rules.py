# SPDX-License-Identifier: Apache-2.0
"""What every program in a file obeys (docs/FORMAT.md, chapter Rules).

The writer refuses to write, and the reader to return, a program that breaks one of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np

from edgekit.errors import FormatError
from edgekit.format import schema
from edgekit.format.schema import Dtype, Opcode, RawLayout, Region
from edgekit.program import (
    Accumulate,
    Add,
    AveragePool,
    Concat,
    Conv2D,
    Dense,
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
    inplace_inputs,
    inverse_scale,
    lifetimes,
    multiplier,
    prelu_multipliers,
    product_multiplier,
    scale,
    sum_multipliers,
    tensor_bytes,
)

Shape = tuple[int, ...]


def check_program(program: Program) -> None:
    """Checks tensors, operators, the order of execution and the memory plan.

    Raises:
        FormatError: naming the tensor or operator and what is wrong with it.
    """
    for tensor in program.tensors.values():
        check_tensor(tensor)
    check_ports(program)
    for index in range(len(program.ops)):
        check_op(program, index)
    check_order(program)
    check_plan(program)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise FormatError(message)


# ---- Tensors -----------------------------------------------------------------------------------


def check_scale(value: np.float32 | float, what: str) -> None:
    """A scale or multiplier is a finite binary32 in [2^-96, 2^64]."""
    _require(schema.SCALE_MIN <= float(value) <= schema.SCALE_MAX, f"{what} {value} is not in [2^-96, 2^64]")


def check_scales(values: np.ndarray, what: str) -> None:
    """`check_scale` for each of many."""
    wide = values.astype(np.float64)
    fit = (wide >= schema.SCALE_MIN) & (wide <= schema.SCALE_MAX)
    if not fit.all():
        check_scale(values[np.argmin(fit)], what)


def check_tensor(tensor: Tensor) -> None:
    """Element type, shape and quantization of one tensor."""
    where = f"tensor '{tensor.name}'"
    _require(tensor.dtype in (Dtype.I8, Dtype.F32), f"{where}: element type {tensor.dtype.name} is not supported")
    _require(len(tensor.shape) <= schema.MAX_RANK, f"{where}: rank {len(tensor.shape)} is above {schema.MAX_RANK}")
    _require(all(d >= 1 for d in tensor.shape), f"{where}: shape {list(tensor.shape)} has an empty dimension")
    _require(tensor_bytes(tensor) <= schema.MAX_ARENA_BYTES, f"{where}: {tensor_bytes(tensor)} bytes are too many")
    _require(tensor.region in (Region.IO, Region.ARENA, Region.READONLY), f"{where}: region {tensor.region.name}")
    _require((tensor.data is not None) == (tensor.region == Region.READONLY), f"{where}: data without READONLY")
    if tensor.dtype == Dtype.F32:
        _require(tensor.region == Region.IO and tensor.quant is None, f"{where}: float32 is for the caller's arrays")
    elif tensor.quant is not None:
        check_scale(tensor.quant.scale, f"{where}: scale")
        _require(-128 <= tensor.quant.zero_point <= 127, f"{where}: zero point {tensor.quant.zero_point}")


def check_ports(program: Program) -> None:
    """Inputs and outputs are the IO tensors, once each."""
    ports = [*program.inputs, *program.outputs]
    _require(bool(program.inputs) and bool(program.outputs), "a model has at least one input and one output")
    _require(len(set(ports)) == len(ports), "two inputs or outputs have the same name")
    for name in ports:
        _require(program.tensors[name].region == Region.IO, f"tensor '{name}': a port is not in region IO")
        _require("\0" not in name and bool(name), f"port name {name!r} is empty or holds a zero byte")
    io = {t.name for t in program.tensors.values() if t.region == Region.IO}
    _require(io == set(ports), f"tensors {sorted(io - set(ports))} in region IO are no ports")


# ---- Operators ---------------------------------------------------------------------------------


def check_op(program: Program, index: int) -> None:
    """Operand count, types, shapes and parameters of operator `index`."""
    op = program.ops[index]
    where = f"operator {index} '{op.name}' ({op.opcode.name})"
    inputs, outputs = ([program.tensors[name] for name in names] for names in (op.inputs, op.outputs))
    operands = schema.OPERANDS[op.opcode]
    enough = operands.least <= len(inputs) <= operands.most and len(outputs) == 1
    _require(enough, f"{where}: {len(inputs)} inputs, {len(outputs)} outputs; it takes {operands.least} to {operands.most} and has 1")
    y = outputs[0]
    _require(y.region != Region.READONLY and y.name not in program.inputs, f"{where}: writes '{y.name}'")
    for tensor in (*inputs, y):
        real = op.opcode == Opcode.QUANTIZE and tensor is inputs[0]
        real |= op.opcode == Opcode.DEQUANTIZE and tensor is y
        _require((tensor.dtype == Dtype.F32) == real, f"{where}: '{tensor.name}' is {tensor.dtype.name}")
        weights = isinstance(op, Accumulate) and tensor is inputs[1]
        _require(real or weights or tensor.quant is not None, f"{where}: '{tensor.name}' has no scale")
    if op.opcode == Opcode.QUANTIZE:
        _require(inputs[0].region == Region.IO, f"{where}: reads '{inputs[0].name}', no port")
    lo, hi = getattr(op, "lo", -128), getattr(op, "hi", 127)
    _require(-128 <= lo <= hi <= 127, f"{where}: clamp [{lo}, {hi}]")
    if op.opcode in _MOVES:
        same = all(t.quant == y.quant for t in inputs)
        _require(same, f"{where}: inputs and output differ in scale or zero point")
    try:
        shape = _SHAPES[op.opcode](program, op, inputs, y)
        _require(y.shape == shape, f"output is {list(y.shape)}, not {list(shape)}")
    except FormatError as error:
        raise FormatError(f"{where}: {error}") from None


_MOVES = frozenset(
    (Opcode.MAX_POOL, Opcode.RESHAPE, Opcode.TRANSPOSE, Opcode.SLICE, Opcode.PAD, Opcode.CONCAT, Opcode.RESIZE_NEAREST)
)


def _permuted(shape: Shape, perm: Iterable[int] | None) -> Shape:
    order = tuple(perm or ())
    _require(sorted(order) == list(range(len(shape))), f"{list(order)} is no permutation of rank {len(shape)}")
    return tuple(shape[i] for i in order)


def _quantize(program: Program, op: Quantize, inputs: list[Tensor], y: Tensor) -> Shape:
    if op.raw_table is not None:
        _raw(op, op.raw_table, y)
    return _permuted(inputs[0].shape, op.perm)


def _raw(op: Quantize, table: np.ndarray, y: Tensor) -> None:
    """The table for raw data, and the preprocessing that it was made from."""
    _require(op.raw_dtype in (Dtype.I8, Dtype.U8), "the raw element type is neither I8 nor U8")
    _require(op.raw_perm is not None and op.raw_mean is not None and op.raw_std is not None, "raw_perm, raw_mean or raw_std is missing")
    assert op.raw_perm is not None and op.raw_mean is not None and op.raw_std is not None
    _permuted(y.shape, op.raw_perm)
    _require(op.table_axis < max(len(y.shape), 1), f"table_axis {op.table_axis} of rank {len(y.shape)}")
    counts = {1, y.shape[op.table_axis]} if y.shape else {1}
    _require(table.shape[1:] == (256,) and len(table) in counts, "raw_table has a wrong shape")
    _require(op.raw_mean.shape == op.raw_std.shape == table.shape[:1], "raw_mean or raw_std has another count than raw_table")
    _require(bool(np.isfinite(op.raw_mean).all()), "a raw_mean is not finite")
    for std in op.raw_std:
        check_scale(std, "raw_std")
    if op.raw_layout != RawLayout.NONE:
        _require(len(y.shape) == 4, f"raw_layout {op.raw_layout.name} of rank {len(y.shape)}")
        channels = 1 if op.raw_layout == RawLayout.NCHW else 3
        _require(len(table) == 1 or op.raw_perm[op.table_axis] == channels, f"table_axis {op.table_axis} is not the channels of {op.raw_layout.name}")


def _dequantize(program: Program, op: Dequantize, inputs: list[Tensor], y: Tensor) -> Shape:
    return _permuted(inputs[0].shape, op.perm)


def _window(op: Conv2D | DepthwiseConv2D | MaxPool | AveragePool, x: Tensor, kernel: tuple[int, int]) -> list[Shape]:
    """The sizes that rows and columns of the output may have: whole windows inside input and padding, and,
    for pooling, one more that reaches beyond. A pooling window always holds a position of the input."""
    _require(len(x.shape) == 4, f"input has rank {len(x.shape)}, not 4")
    pooling = isinstance(op, (MaxPool, AveragePool))
    numbers = (*op.strides, *op.dilations, *kernel)
    _require(min(numbers) >= 1 and max(*numbers, *op.pads) <= 0xFFFF and min(op.pads) >= 0, "window out of range: strides, dilations and kernel are 1 to 65535, pads 0 to 65535")
    sizes = []
    for size, k, stride, dilation, before, after in zip(
        x.shape[1:3], kernel, op.strides, op.dilations, op.pads[:2], op.pads[2:], strict=True
    ):
        room = size + before + after - (k - 1) * dilation - 1
        _require(room >= 0, "the window is larger than input and padding")
        whole = room // stride + 1
        allowed = range(whole, whole + 1 + (pooling and room % stride != 0))
        sizes.append(tuple(n for n in allowed if not pooling or _meets_input(n, size, k, stride, dilation, before)))
    rows, cols = x.shape[1] + op.pads[0] + op.pads[2], x.shape[2] + op.pads[1] + op.pads[3]
    _require(max(rows, cols, rows * cols * x.shape[3]) <= schema.MAX_PADDED_ELEMENTS, "the padded input is too large")
    return sizes


def _meets_input(count: int, size: int, kernel: int, stride: int, dilation: int, before: int) -> bool:
    """Whether each of `count` windows has a tap inside the input."""
    if (count - 1) * stride - before >= size:
        return False
    # Windows that begin inside have their first tap there; the others are at most 2^16.
    missing = np.arange(before, 0, -stride)[:count]
    tap = -(-missing // dilation)
    return bool(np.all((tap < kernel) & (tap * dilation - missing < size)))


def _accumulate(program: Program, op: Accumulate, w: Tensor, channels: int) -> None:
    _require(w.region == Region.READONLY, f"weights '{w.name}' are not constant")
    _require(op.bias.shape == (channels,) and op.weight_scale.shape == (channels,), "bias and scales have a wrong shape")
    check_scales(multiplier(program, op), "multiplier")


def _conv2d(program: Program, op: Conv2D, inputs: list[Tensor], y: Tensor) -> Shape:
    x, w = inputs
    _require(len(w.shape) == 4, f"weights have rank {len(w.shape)}, not 4")
    o, kh, kw, depth = w.shape
    _require(kh * kw * depth <= schema.MAX_DEPTH, f"{kh * kw * depth} weights per channel are above {schema.MAX_DEPTH}")
    ((oh,), (ow,)) = _window(op, x, (kh, kw))
    _require(op.groups >= 1 and x.shape[3] == depth * op.groups, f"{x.shape[3]} channels, weights for {depth} x {op.groups}")
    _require(o % op.groups == 0, f"{op.groups} groups do not divide {o} output channels")
    _accumulate(program, op, w, o)
    return x.shape[0], oh, ow, o


def _depthwise(program: Program, op: DepthwiseConv2D, inputs: list[Tensor], y: Tensor) -> Shape:
    x, w = inputs
    _require(len(w.shape) == 3, f"weights have rank {len(w.shape)}, not 3")
    kh, kw, o = w.shape
    _require(kh * kw <= schema.MAX_DEPTH, f"{kh * kw} weights per channel are above {schema.MAX_DEPTH}")
    ((oh,), (ow,)) = _window(op, x, (kh, kw))
    _require(o % x.shape[3] == 0, f"{x.shape[3]} channels do not divide {o} output channels")
    _accumulate(program, op, w, o)
    return x.shape[0], oh, ow, o


def _dense(program: Program, op: Dense, inputs: list[Tensor], y: Tensor) -> Shape:
    x, w = inputs
    _require(len(w.shape) == 2 and len(x.shape) >= 1, f"weights {list(w.shape)} on {list(x.shape)}")
    _require(w.shape[1] <= schema.MAX_DEPTH, f"{w.shape[1]} weights per channel are above {schema.MAX_DEPTH}")
    _require(x.shape[-1] == w.shape[1], f"depth {x.shape[-1]}, weights for {w.shape[1]}")
    _accumulate(program, op, w, w.shape[0])
    return (*x.shape[:-1], w.shape[0])


def _matmul(program: Program, op: MatMul, inputs: list[Tensor], y: Tensor) -> Shape:
    a, b = (t.shape for t in inputs)
    _require(len(a) == len(b) >= 2 and a[-1] == b[-2], f"{list(a)} x {list(b)}")
    _require(a[:-2] == b[:-2] or set(b[:-2]) == {1}, f"batch dimensions {list(a[:-2])} and {list(b[:-2])}")
    check_scale(product_multiplier(program, op), "multiplier")
    return (*a[:-1], b[-1])


def _matmul_transposed(program: Program, op: MatMul, inputs: list[Tensor], y: Tensor) -> Shape:
    a, b = (t.shape for t in inputs)
    _require(len(a) == len(b) >= 2 and a[-1] == b[-1], f"{list(a)} x {list(b)} transposed")
    _require(a[:-2] == b[:-2] or set(b[:-2]) == {1}, f"batch dimensions {list(a[:-2])} and {list(b[:-2])}")
    check_scale(product_multiplier(program, op), "multiplier")
    return (*a[:-1], b[-2])


def _broadcast(inputs: list[Tensor]) -> Shape:
    try:
        return np.broadcast_shapes(*(t.shape for t in inputs))
    except ValueError:
        raise FormatError(" and ".join(str(list(t.shape)) for t in inputs) + " do not broadcast") from None


def _add(program: Program, op: Add, inputs: list[Tensor], y: Tensor) -> Shape:
    for value in sum_multipliers(program, op):
        check_scale(abs(value), "multiplier")
    return _broadcast(inputs)


def _mul(program: Program, op: Mul, inputs: list[Tensor], y: Tensor) -> Shape:
    check_scale(product_multiplier(program, op), "multiplier")
    return _broadcast(inputs)


def _pool(program: Program, op: MaxPool | AveragePool, inputs: list[Tensor], y: Tensor) -> Shape:
    (x,) = inputs
    positions = op.kernel[0] * op.kernel[1]
    _require(positions <= schema.MAX_POOL_POSITIONS, f"{positions} positions in a window are above {schema.MAX_POOL_POSITIONS}")
    sizes = _window(op, x, op.kernel)
    fits = len(y.shape) == 4 and all(size in allowed for size, allowed in zip(y.shape[1:3], sizes, strict=True))
    _require(fits, f"output is {list(y.shape)}, its rows and columns must be in {sizes}")
    if isinstance(op, AveragePool):
        sx, sy = scale(program, x.name), scale(program, y.name)
        for n in (1, positions):
            check_scale(sx / (sy * np.float32(n)), "multiplier")
    return x.shape[0], *y.shape[1:3], x.shape[3]


def _lut(program: Program, op: Lut, inputs: list[Tensor], y: Tensor) -> Shape:
    _require(op.table.shape == (256,), f"table has shape {list(op.table.shape)}")
    return inputs[0].shape


def _prelu(program: Program, op: PRelu, inputs: list[Tensor], y: Tensor) -> Shape:
    (x,) = inputs
    _require(len(x.shape) >= 1 and op.slope.shape == x.shape[-1:], "one slope per channel is needed")
    positive, negative = prelu_multipliers(program, op)
    check_scale(positive, "multiplier")
    check_scales(np.abs(negative[negative != 0]), "multiplier")
    return x.shape


def _softmax(program: Program, op: Softmax, inputs: list[Tensor], y: Tensor) -> Shape:
    (x,) = inputs
    _require(len(x.shape) >= 1 and op.table.shape == (256,), "input or table has a wrong shape")
    table = op.table.astype(np.int64)
    top = int(table[0])
    fits = 1 <= top <= schema.MAX_SOFTMAX_ENTRY and top * x.shape[-1] < 2**31 and table.max() == top
    _require(bool(fits), f"table[0] = {top}, greatest {table.max()}, last dimension {x.shape[-1]}")
    check_scale(inverse_scale(program, op) / np.float32(top * x.shape[-1]), "inverse_scale over the largest sum")
    return x.shape


def _layer_norm(program: Program, op: LayerNorm, inputs: list[Tensor], y: Tensor) -> Shape:
    (x,) = inputs
    _require(len(x.shape) >= 1 and x.shape[-1] <= schema.MAX_NORM_DEPTH, f"{list(x.shape)} is normalized over 1 to {schema.MAX_NORM_DEPTH} elements")
    _require(op.gain.shape == op.offset.shape == x.shape[-1:], "one gain and one offset per element of the last dimension are needed")
    check_scale(op.epsilon, "epsilon")
    for name, values in (("gain", op.gain), ("offset", op.offset)):
        check_scales(np.abs(values[values != 0]), name)
    return x.shape


def _reshape(program: Program, op: Op, inputs: list[Tensor], y: Tensor) -> Shape:
    _require(inputs[0].size == y.size, f"{inputs[0].size} elements become {y.size}")
    return y.shape


def _transpose(program: Program, op: Transpose, inputs: list[Tensor], y: Tensor) -> Shape:
    return _permuted(inputs[0].shape, op.perm)


def _slice(program: Program, op: Slice, inputs: list[Tensor], y: Tensor) -> Shape:
    x = inputs[0].shape
    _require(len(op.starts) == len(op.steps) == len(x) == len(y.shape), "ranks differ")
    for size, start, step, count in zip(x, op.starts, op.steps, y.shape, strict=True):
        last = start + step * (count - 1)
        _require(step != 0 and 0 <= start < size and 0 <= last < size, f"[{start}:{last}:{step}] of {size}")
    return y.shape


def _pad(program: Program, op: Pad, inputs: list[Tensor], y: Tensor) -> Shape:
    x = inputs[0].shape
    _require(len(op.before) == len(x) == len(y.shape), "ranks differ")
    fits = all(b >= 0 and b + size <= total for b, size, total in zip(op.before, x, y.shape, strict=True))
    _require(fits and -128 <= op.value <= 127, f"{list(x)} at {list(op.before)} does not fit {list(y.shape)}")
    return y.shape


def _concat(program: Program, op: Concat, inputs: list[Tensor], y: Tensor) -> Shape:
    first = inputs[0].shape
    _require(0 <= op.axis < len(first), f"axis {op.axis} of rank {len(first)}")
    for t in inputs:
        rest = len(t.shape) == len(first) and all(
            a == b for d, (a, b) in enumerate(zip(t.shape, first, strict=True)) if d != op.axis
        )
        _require(rest, f"'{t.name}' is {list(t.shape)}, the first input {list(first)}")
    return (*first[: op.axis], sum(t.shape[op.axis] for t in inputs), *first[op.axis + 1 :])


def _resize(program: Program, op: ResizeNearest, inputs: list[Tensor], y: Tensor) -> Shape:
    x = inputs[0].shape
    _require(len(x) == 4, f"input has rank {len(x)}, not 4")
    for index, size in ((op.rows, x[1]), (op.cols, x[2])):
        _require(index.ndim == 1 and bool(np.all((index >= 0) & (index < size))), f"an index is not below {size}")
    return x[0], len(op.rows), len(op.cols), x[3]


_SHAPES: dict[Opcode, Callable[..., Shape]] = {
    Opcode.QUANTIZE: _quantize,
    Opcode.DEQUANTIZE: _dequantize,
    Opcode.CONV2D: _conv2d,
    Opcode.DEPTHWISE_CONV2D: _depthwise,
    Opcode.DENSE: _dense,
    Opcode.MATMUL: _matmul,
    Opcode.ADD: _add,
    Opcode.MUL: _mul,
    Opcode.MAX_POOL: _pool,
    Opcode.AVERAGE_POOL: _pool,
    Opcode.LUT: _lut,
    Opcode.PRELU: _prelu,
    Opcode.SOFTMAX: _softmax,
    Opcode.RESHAPE: _reshape,
    Opcode.TRANSPOSE: _transpose,
    Opcode.SLICE: _slice,
    Opcode.PAD: _pad,
    Opcode.CONCAT: _concat,
    Opcode.RESIZE_NEAREST: _resize,
    Opcode.LAYER_NORM: _layer_norm,
    Opcode.MATMUL_TRANSPOSED: _matmul_transposed,
}


# ---- Order and memory --------------------------------------------------------------------------


def check_order(program: Program) -> None:
    """Every tensor is written once, before it is read; every output is written."""
    written = {t.name for t in program.tensors.values() if t.region == Region.READONLY} | {*program.inputs}
    for index, op in enumerate(program.ops):
        for name in op.inputs:
            _require(name in written, f"operator {index} '{op.name}' reads '{name}' before it is written")
        for name, times in Counter(op.outputs).items():
            _require(name not in written and times == 1, f"operator {index} '{op.name}' writes '{name}' again")
        written.update(op.outputs)
    for name in program.outputs:
        _require(name in written, f"output '{name}' is never written")


def check_plan(program: Program) -> None:
    """ARENA tensors lie inside the arena, aligned, and live ones do not overlap.

    The one exception: an operator that works in place may write its output exactly onto an input that dies.
    """
    lives = lifetimes(program)
    placed = []
    for tensor in program.tensors.values():
        if tensor.region != Region.ARENA:
            continue
        if tensor.offset is None:
            raise FormatError(f"tensor '{tensor.name}' has no place in the arena")
        end = tensor.offset + tensor_bytes(tensor)
        aligned = tensor.offset % schema.ARENA_ALIGN == 0
        _require(aligned, f"tensor '{tensor.name}': offset {tensor.offset} is no multiple of {schema.ARENA_ALIGN}")
        _require(tensor.offset >= 0 and end <= program.arena_bytes, f"tensor '{tensor.name}' leaves the arena")
        placed.append((*lives[tensor.name], tensor.offset, end, tensor.name))
    writer = {name: index for index, op in enumerate(program.ops) for name in op.outputs}
    placed.sort()
    live: list[tuple[int, int, int, int, str]] = []
    for item in placed:
        first, _, start, end, name = item
        live = [other for other in live if other[1] >= first]
        for _, last, other_start, other_end, other_name in live:
            if start >= other_end or other_start >= end:
                continue
            shared = first == last and start == other_start and end == other_end
            inplace = shared and other_name in inplace_inputs(program, writer.get(name, 0), lives)
            _require(inplace, f"tensors '{other_name}' and '{name}' overlap in the arena while both are live")
        live.append(item)
