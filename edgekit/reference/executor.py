# SPDX-License-Identifier: Apache-2.0
"""Executes a program operator by operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, overload

import numpy as np

from edgekit.errors import DataError
from edgekit.format.schema import Dtype
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
    MatMulTransposed,
    MaxPool,
    Mul,
    Op,
    Pad,
    PRelu,
    Program,
    Quant,
    Quantize,
    Reshape,
    ResizeNearest,
    Slice,
    Softmax,
    Tensor,
    Transpose,
    inverse_scale,
    multiplier,
    prelu_multipliers,
    product_multiplier,
    sum_multipliers,
)
from edgekit.reference import add, conv, dense, io, layer_norm, lut, matmul, move, mul, pool, prelu, softmax

Arrays = dict[str, np.ndarray]
Step = Callable[..., np.ndarray]
"""(program, operator, *input arrays) -> output array."""

_STEPS: dict[type[Op], Step] = {}


def _step(cls: type[Op]) -> Callable[[Step], Step]:
    """Registers how an operator's fields become the arguments of its reference function."""

    def register(step: Step) -> Step:
        _STEPS[cls] = step
        return step

    return register


@overload
def run(program: Program, inputs: Mapping[str, np.ndarray], taps: Literal[False] = False) -> Arrays: ...


@overload
def run(program: Program, inputs: Mapping[str, np.ndarray], taps: Literal[True]) -> tuple[Arrays, Arrays]: ...


def run(
    program: Program, inputs: Mapping[str, np.ndarray], taps: bool = False
) -> Arrays | tuple[Arrays, Arrays]:
    """Runs one inference.

    Args:
        program: the model.
        inputs: one array per name in `program.inputs`, in the declared shape: float32; or uint8/int8 raw
            data where the program has a table for it; or int8, the tensor itself, with quantized I/O.
        taps: also return every tensor that an operator wrote.

    Returns:
        Output name -> array; with `taps` a pair of that and of tensor name -> array.

    Raises:
        DataError: an input is missing or has the wrong type or shape.
    """
    tensors: Arrays = {name: t.data for name, t in program.tensors.items() if t.data is not None}
    for name in program.inputs:
        if name not in inputs:
            raise DataError(f"input '{name}' is missing; the model reads {', '.join(program.inputs)}")
        tensors[name] = np.asarray(inputs[name])
    for name in program.inputs:
        _check_input(program, name, tensors[name])
    written: Arrays = {}
    for op in program.ops:
        y = _STEPS[type(op)](program, op, *(tensors[name] for name in op.inputs))
        expected = program.tensors[op.outputs[0]]
        assert y.shape == tuple(expected.shape), f"{op.name}: {y.shape} is not {expected.shape}"
        tensors[op.outputs[0]] = written[op.outputs[0]] = y
    outputs = {name: tensors[name] for name in program.outputs}
    return (outputs, written) if taps else outputs


def raw_shape(program: Program, op: Quantize) -> tuple[int, ...]:
    """The shape of the raw array that `op` accepts in place of the float one."""
    assert op.raw_perm is not None
    y = program.tensors[op.outputs[0]].shape
    return tuple(y[i] for i in np.argsort(op.raw_perm))


def raw_numpy_dtype(op: Quantize) -> np.dtype | None:
    """uint8 or int8, or None where the program has no table for raw data."""
    return {Dtype.U8: np.dtype(np.uint8), Dtype.I8: np.dtype(np.int8)}.get(op.raw_dtype)  # type: ignore[arg-type]


def _check_input(program: Program, name: str, array: np.ndarray) -> None:
    tensor = program.tensors[name]
    accepted = {np.dtype(np.float32 if tensor.dtype == Dtype.F32 else np.int8): tuple(tensor.shape)}
    for op in program.ops:
        if isinstance(op, Quantize) and op.inputs == [name] and (raw := raw_numpy_dtype(op)):
            accepted[raw] = raw_shape(program, op)
    if accepted.get(array.dtype) != array.shape:
        wanted = " or ".join(f"{dtype} {list(shape)}" for dtype, shape in accepted.items())
        raise DataError(f"input '{name}' is {array.dtype} {list(array.shape)}; the model takes {wanted}")


def _quant(program: Program, name: str) -> Quant:
    quant = program.tensors[name].quant
    assert quant is not None, f"tensor {name} has no scale"
    return quant


def _x(program: Program, op: Op) -> Quant:
    return _quant(program, op.inputs[0])


def _y(program: Program, op: Op) -> Quant:
    return _quant(program, op.outputs[0])


def _out(program: Program, op: Op) -> Tensor:
    return program.tensors[op.outputs[0]]


def pool_multipliers(program: Program, op: AveragePool) -> np.ndarray:
    """float32[OH,OW], one multiplier per output position."""
    _, h, w, _ = program.tensors[op.inputs[0]].shape
    n = pool.divisors(
        (h, w), kernel=op.kernel, **_window(program, op), count_include_pad=op.count_include_pad
    )
    return pool.average_multiplier(n, _x(program, op).scale, _y(program, op).scale)


def _window(program: Program, op: Conv2D | DepthwiseConv2D | MaxPool | AveragePool) -> dict[str, Any]:
    _, h, w, _ = _out(program, op).shape
    return {"out": (h, w), "strides": op.strides, "dilations": op.dilations, "pads": op.pads}


def _unary(program: Program, op: Accumulate | AveragePool | PRelu) -> dict[str, Any]:
    return {
        "x_zero": _x(program, op).zero_point,
        "y_zero": _y(program, op).zero_point,
        "lo": op.lo,
        "hi": op.hi,
    }


@_step(Quantize)
def _quantize(program: Program, op: Quantize, x: np.ndarray) -> np.ndarray:
    if x.dtype != np.float32:
        assert op.raw_table is not None and op.raw_perm is not None
        return io.look_up_raw(x, op.raw_table, op.table_axis, op.raw_perm)
    quant = _y(program, op)
    return io.quantize(x, quant.scale, quant.zero_point, op.perm)


@_step(Dequantize)
def _dequantize(program: Program, op: Dequantize, x: np.ndarray) -> np.ndarray:
    quant = _x(program, op)
    return io.dequantize(x, quant.scale, quant.zero_point, op.perm)


@_step(Conv2D)
def _conv2d(program: Program, op: Conv2D, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    return conv.conv2d(
        x,
        w,
        op.bias,
        multiplier(program, op),
        **_unary(program, op),
        **_window(program, op),
        groups=op.groups,
    )


@_step(DepthwiseConv2D)
def _depthwise_conv2d(program: Program, op: DepthwiseConv2D, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    return conv.depthwise_conv2d(
        x, w, op.bias, multiplier(program, op), **_unary(program, op), **_window(program, op)
    )


@_step(Dense)
def _dense(program: Program, op: Dense, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    return dense.dense(x, w, op.bias, multiplier(program, op), **_unary(program, op))


@_step(MatMul)
def _matmul(program: Program, op: MatMul, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return matmul.matmul(a, b, product_multiplier(program, op), **_binary(program, op))


@_step(MatMulTransposed)
def _matmul_transposed(program: Program, op: MatMulTransposed, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return _matmul(program, op, a, np.swapaxes(b, -1, -2))


@_step(Add)
def _add(program: Program, op: Add, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a_multiplier, b_multiplier = sum_multipliers(program, op)
    return add.add(a, b, a_multiplier, b_multiplier, **_binary(program, op))


@_step(Mul)
def _mul(program: Program, op: Mul, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return mul.mul(a, b, product_multiplier(program, op), **_binary(program, op))


def _binary(program: Program, op: Add | Mul | MatMul) -> dict[str, int]:
    return {
        "a_zero": _quant(program, op.inputs[0]).zero_point,
        "b_zero": _quant(program, op.inputs[1]).zero_point,
        "y_zero": _y(program, op).zero_point,
        "lo": op.lo,
        "hi": op.hi,
    }


@_step(MaxPool)
def _max_pool(program: Program, op: MaxPool, x: np.ndarray) -> np.ndarray:
    return pool.max_pool(x, kernel=op.kernel, **_window(program, op))


@_step(AveragePool)
def _average_pool(program: Program, op: AveragePool, x: np.ndarray) -> np.ndarray:
    return pool.average_pool(
        x, pool_multipliers(program, op), **_unary(program, op), kernel=op.kernel, **_window(program, op)
    )


@_step(Lut)
def _lut(program: Program, op: Lut, x: np.ndarray) -> np.ndarray:
    return lut.lut(x, op.table)


@_step(PRelu)
def _prelu(program: Program, op: PRelu, x: np.ndarray) -> np.ndarray:
    return prelu.prelu(x, *prelu_multipliers(program, op), **_unary(program, op))


@_step(Softmax)
def _softmax(program: Program, op: Softmax, x: np.ndarray) -> np.ndarray:
    zero = _y(program, op).zero_point
    return softmax.softmax(x, op.table, inverse_scale(program, op), y_zero=zero, lo=op.lo, hi=op.hi)


@_step(LayerNorm)
def _layer_norm(program: Program, op: LayerNorm, x: np.ndarray) -> np.ndarray:
    zero = _y(program, op).zero_point
    return layer_norm.layer_norm(x, op.epsilon, op.gain, op.offset, y_zero=zero, lo=op.lo, hi=op.hi)


@_step(Reshape)
def _reshape(program: Program, op: Reshape, x: np.ndarray) -> np.ndarray:
    return move.reshape(x, tuple(_out(program, op).shape))


@_step(Transpose)
def _transpose(program: Program, op: Transpose, x: np.ndarray) -> np.ndarray:
    return move.transpose(x, op.perm)


@_step(Slice)
def _slice(program: Program, op: Slice, x: np.ndarray) -> np.ndarray:
    return move.strided_slice(x, op.starts, op.steps, tuple(_out(program, op).shape))


@_step(Pad)
def _pad(program: Program, op: Pad, x: np.ndarray) -> np.ndarray:
    return move.pad(x, op.before, op.value, tuple(_out(program, op).shape))


@_step(Concat)
def _concat(program: Program, op: Concat, *xs: np.ndarray) -> np.ndarray:
    return move.concat(list(xs), op.axis)


@_step(ResizeNearest)
def _resize_nearest(program: Program, op: ResizeNearest, x: np.ndarray) -> np.ndarray:
    return move.resize_nearest(x, op.rows, op.cols)
