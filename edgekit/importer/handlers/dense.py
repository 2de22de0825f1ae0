# SPDX-License-Identifier: Apache-2.0
"""Matrix products."""

from __future__ import annotations

import math

import numpy as np

from edgekit.importer.context import Context, OnnxNode, Shape
from edgekit.importer.handlers.activation import affine
from edgekit.importer.handlers.shape import repeated
from edgekit.importer.registry import handler


@handler("Gemm", becomes="Dense; MatMul and Add where both factors are computed")
def gemm(ctx: Context, node: OnnxNode) -> None:
    """alpha * A' B' + beta * C; A' [M,K], B' [K,N]."""
    a, b = node.inputs[:2]
    trans_a, trans_b = bool(node.attrs.get("transA", 0)), bool(node.attrs.get("transB", 0))
    alpha, beta = float(node.attrs.get("alpha", 1.0)), float(node.attrs.get("beta", 1.0))
    c = node.input(2)
    a_data, b_data = ctx.constant(a), ctx.constant(b)
    if b_data is not None:
        w = np.float32(alpha) * (b_data if trans_b else b_data.T)
        _dense_gemm(ctx, node, ctx.take(a, (1, 0) if trans_a else None), w, c, beta)
        return
    if a_data is not None:
        # (A B)^T = B^T A^T: the constant comes to the right, the result leaves transposed.
        w = np.float32(alpha) * (a_data.T if trans_a else a_data)
        x = ctx.take(b, None if trans_b else (1, 0))
        _left_gemm(ctx, node, x, w, c, beta)
        return
    left = ctx.take(a, (1, 0) if trans_a else None)
    right = ctx.take(b, (1, 0) if trans_b else None)
    if c is None and alpha == 1.0:
        ctx.give(node.output, "MatMul", [left, right])
        return
    product = ctx.step("MatMul", [left, right], ctx.shape(node.output))
    if c is None:
        ctx.give(node.output, "Unary", [product], affine(alpha))
        return
    if alpha != 1.0:
        product = _scaled(ctx, product, ctx.shape(node.output), alpha)
    ctx.give(node.output, "Add", [product, _addend(ctx, c, beta)])


def _dense_gemm(ctx: Context, node: OnnxNode, x: str, w: np.ndarray, c: str | None, beta: float) -> None:
    y = node.output
    bias = _row(ctx.constant(c), w.shape[0], beta)
    if c is None or bias is not None:
        bias = np.zeros(w.shape[0], np.float32) if bias is None else bias
        ctx.give(y, "Dense", [x, ctx.add_constant(node.inputs[1], w), ctx.add_constant(f"{y}.bias", bias)])
        return
    zero = ctx.add_constant(f"{y}.bias", np.zeros(w.shape[0], np.float32))
    product = ctx.step("Dense", [x, ctx.add_constant(node.inputs[1], w), zero], ctx.shape(y))
    ctx.give(y, "Add", [product, _addend(ctx, c, beta)])


def _left_gemm(ctx: Context, node: OnnxNode, x: str, w: np.ndarray, c: str | None, beta: float) -> None:
    y = node.output
    rows, columns = ctx.shape(y)
    data = ctx.constant(c)
    bias = None if data is None else _row(np.broadcast_to(data, (rows, columns)).T, rows, beta)
    fused = c is None or bias is not None
    bias = np.zeros(rows, np.float32) if bias is None else bias
    inputs = [x, ctx.add_constant(node.inputs[0], w), ctx.add_constant(f"{y}.bias", bias)]
    if fused:
        ctx.give(y, "Dense", inputs, perm=(1, 0))
        return
    product = ctx.step("Dense", inputs, (columns, rows))
    product = ctx.step("Transpose", [product], (rows, columns), {"perm": (1, 0)})
    ctx.give(y, "Add", [product, _addend(ctx, c, beta)])


def _row(c: np.ndarray | None, columns: int, beta: float) -> np.ndarray | None:
    """beta * c as one number per column, or None where it varies over rows."""
    if c is None:
        return None
    matrix = np.atleast_2d(c)
    if not (matrix == matrix[:1]).all():
        return None
    return np.broadcast_to(np.float32(beta) * matrix[0], (columns,)).astype(np.float32)


def _addend(ctx: Context, c: str | None, beta: float) -> str:
    assert c is not None
    data = ctx.constant(c)
    if data is not None:
        return ctx.add_constant(c, np.float32(beta) * data)
    return ctx.take(c) if beta == 1.0 else _scaled(ctx, ctx.take(c), ctx.shape(c), beta)


def _scaled(ctx: Context, value: str, shape: Shape, factor: float) -> str:
    return ctx.step("Unary", [value], shape, affine(factor))


@handler("MatMul", becomes="Dense; MatMul where both factors are computed or the constant is a stack")
def matmul(ctx: Context, node: OnnxNode) -> None:
    """NumPy's matmul: a vector on either side, stacks of matrices with broadcasting."""
    a, b = node.inputs
    a_data, b_data = ctx.constant(a), ctx.constant(b)
    if b_data is not None and _is_matrix(b_data):
        _dense_matmul(ctx, node, b_data.reshape(b_data.shape[-2:] if b_data.ndim > 1 else (-1, 1)))
    elif a_data is not None and _is_matrix(a_data) and ctx.rank(b) > 1:
        _left_matmul(ctx, node, a_data.reshape(a_data.shape[-2:] if a_data.ndim > 1 else (1, -1)))
    else:
        _stacked_matmul(ctx, node)


def _is_matrix(data: np.ndarray) -> bool:
    """Whether all stack dimensions are 1."""
    return math.prod(data.shape[:-2]) == 1


def _dense_matmul(ctx: Context, node: OnnxNode, w: np.ndarray) -> None:
    a, b = node.inputs
    y = node.output
    x_shape = ctx.shape(a) if ctx.rank(a) > 1 else (1, *ctx.shape(a))
    bias = ctx.add_constant(f"{y}.bias", np.zeros(w.shape[1], np.float32))
    inputs = [ctx.take(a, shape=x_shape), ctx.add_constant(b, w.T), bias]
    ctx.give(y, "Dense", inputs, shape=(*x_shape[:-1], w.shape[1]))


def _left_matmul(ctx: Context, node: OnnxNode, w: np.ndarray) -> None:
    """(A B)^T = B^T A^T in every matrix of the stack."""
    a, b = node.inputs
    y = node.output
    stack = ctx.shape(b)[:-2]
    swap = (*range(len(stack)), len(stack) + 1, len(stack))
    bias = ctx.add_constant(f"{y}.bias", np.zeros(w.shape[0], np.float32))
    inputs = [ctx.take(b, swap), ctx.add_constant(a, w), bias]
    result = (*stack, ctx.shape(b)[-1], w.shape[0])
    if ctx.rank(y) == ctx.rank(b):
        ctx.give(y, "Dense", inputs, perm=swap)
        return
    product = ctx.step("Dense", inputs, result)
    product = ctx.step("Transpose", [product], tuple(result[i] for i in swap), {"perm": swap})
    ctx.give(y, "Reshape", [product])


def _stacked_matmul(ctx: Context, node: OnnxNode) -> None:
    """Both factors become stacks of the same shape, vectors matrices."""
    a, b = node.inputs
    a_shape = ctx.shape(a) if ctx.rank(a) > 1 else (1, *ctx.shape(a))
    b_shape = ctx.shape(b) if ctx.rank(b) > 1 else (*ctx.shape(b), 1)
    stack = np.broadcast_shapes(a_shape[:-2], b_shape[:-2])
    inputs = [_stacked(ctx, a, a_shape, stack), _stacked(ctx, b, b_shape, stack)]
    ctx.give(node.output, "MatMul", inputs, shape=(*stack, a_shape[-2], b_shape[-1]))


def _stacked(ctx: Context, tensor: str, shape: Shape, stack: Shape) -> str:
    """ONNX tensor `tensor`, matrices of `shape`, repeated to [*stack, rows, columns]."""
    whole = (*stack, *shape[-2:])
    data = ctx.constant(tensor)
    if data is not None:
        return ctx.add_constant(tensor, np.broadcast_to(data.reshape(shape), whole))
    shape = (1,) * (len(whole) - len(shape)) + shape
    repeats = [n // m for n, m in zip(whole, shape, strict=True)]
    return repeated(ctx, ctx.take(tensor, shape=shape), shape, repeats)
