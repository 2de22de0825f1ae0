# SPDX-License-Identifier: Apache-2.0
"""Executes a float `Graph` in NumPy: what the operators of `graph.OPS` mean.

The tests compare graphs before and after a pass with it, constant folding runs single nodes
through it, and calibration without data uses it. It favours legibility over speed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from edgekit.errors import DataError
from edgekit.graph import Graph, Node
from edgekit.passes import unary

Shape = tuple[int, ...]
Operator = Callable[[Node, list[np.ndarray], Shape], np.ndarray]


def evaluate(
    graph: Graph, inputs: Mapping[str, np.ndarray], dtype: type[np.floating] = np.float32
) -> dict[str, np.ndarray]:
    """Runs `graph` once.

    Args:
        inputs: input port name -> array of the port's shape.
        dtype: float32 or float64, the type of every result.

    Returns:
        value name -> array of the value's shape, constants included.

    Raises:
        DataError: an input is missing or has another shape.
    """
    values = {v.name: v.data.astype(dtype) for v in graph.values.values() if v.data is not None}
    for port in graph.inputs:
        if port.name not in inputs:
            raise DataError(f"input {port.name!r} is missing: give an array of shape {port.shape}")
        array = np.asarray(inputs[port.name], dtype=dtype)
        if array.shape != port.shape:
            raise DataError(f"input {port.name!r} has shape {array.shape}, the model takes {port.shape}")
        values[port.value] = array
    for node in graph.nodes:
        arrays = [values[name] for name in node.inputs]
        shape = graph.values[node.outputs[0]].shape
        values[node.outputs[0]] = evaluate_node(node, arrays, shape).astype(dtype)
    return values


def outputs(graph: Graph, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Output port name -> array, from the result of `evaluate`."""
    return {port.name: values[port.value] for port in graph.outputs}


def evaluate_node(node: Node, arrays: list[np.ndarray], shape: Shape) -> np.ndarray:
    """What `node` computes from `arrays`; `shape` is its output value's."""
    y = OPERATORS[node.op](node, arrays, shape)
    if "clip" in node.attrs:
        y = np.clip(y, *node.attrs["clip"])
    assert y.shape == shape, f"{node.op} {node.name}: {y.shape} instead of {shape}"
    return y


def windows(node: Node, x: np.ndarray, kernel: tuple[int, int], shape: Shape, fill: float) -> np.ndarray:
    """The inputs under each output position, [N, OH, OW, KH, KW, C]; `fill` stands outside of `x`.

    A window may reach beyond the padding, as ONNX's ceil_mode lets it: `shape`, the output's, decides.
    """
    (sh, sw), (dh, dw) = node.attrs["strides"], node.attrs["dilations"]
    top, left = node.attrs["pads"][:2]
    rows = np.arange(shape[1])[:, None] * sh + np.arange(kernel[0]) * dh - top
    cols = np.arange(shape[2])[:, None] * sw + np.arange(kernel[1]) * dw - left
    inside = _inside(rows, 0, x.shape[1])[:, None, :, None] & _inside(cols, 0, x.shape[2])[None, :, None, :]
    rows, cols = rows.clip(0, x.shape[1] - 1), cols.clip(0, x.shape[2] - 1)
    taken = x[:, rows[:, None, :, None], cols[None, :, None, :], :]
    return np.where(inside[None, ..., None], taken, np.asarray(fill, dtype=x.dtype))


def _inside(index: np.ndarray, lo: int, hi: int) -> np.ndarray:
    return (index >= lo) & (index < hi)


def _conv(node: Node, arrays: list[np.ndarray], shape: Shape) -> np.ndarray:
    x, w, b = arrays
    groups = node.attrs.get("groups", 1)
    taps = windows(node, x, w.shape[1:3], shape, 0.0)
    per_group = w.shape[0] // groups
    depth = w.shape[3]
    parts = [
        np.tensordot(taps[..., g * depth : (g + 1) * depth], w[g * per_group : (g + 1) * per_group], ([3, 4, 5], [1, 2, 3]))
        for g in range(groups)
    ]  # fmt: skip
    return np.concatenate(parts, axis=-1) + b


def _depthwise_conv(node: Node, arrays: list[np.ndarray], shape: Shape) -> np.ndarray:
    x, w, b = arrays
    taps = windows(node, x, w.shape[:2], shape, 0.0)
    taps = np.repeat(taps, w.shape[2] // x.shape[3], axis=-1)
    return np.einsum("nhwijo,ijo->nhwo", taps, w) + b


def _dense(node: Node, arrays: list[np.ndarray], shape: Shape) -> np.ndarray:
    x, w, b = arrays
    return x @ w.T + b


def _max_pool(node: Node, arrays: list[np.ndarray], shape: Shape) -> np.ndarray:
    return windows(node, arrays[0], node.attrs["kernel"], shape, -np.inf).max(axis=(3, 4))


def _average_pool(node: Node, arrays: list[np.ndarray], shape: Shape) -> np.ndarray:
    (x,) = arrays
    counted = np.ones((1, *x.shape[1:3], 1), x.dtype)
    total = windows(node, x, node.attrs["kernel"], shape, 0.0).sum(axis=(3, 4))
    if not node.attrs["count_include_pad"]:
        return total / windows(node, counted, node.attrs["kernel"], shape, 0.0).sum(axis=(3, 4))
    # Positions in the padding count, those that ceil_mode adds beyond it do not.
    top, left, bottom, right = node.attrs["pads"]
    padded = Node(node.op, node.name, [], [], {**node.attrs, "pads": (0, 0, 0, 0)})
    counted = np.pad(counted, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=1)
    return total / windows(padded, counted, node.attrs["kernel"], shape, 0.0).sum(axis=(3, 4))


def _matmul(node: Node, arrays: list[np.ndarray], shape: Shape) -> np.ndarray:
    a, b = arrays
    return a @ (np.swapaxes(b, -1, -2) if node.attrs.get("transposed") else b)


def _softmax(node: Node, arrays: list[np.ndarray], shape: Shape) -> np.ndarray:
    x = arrays[0] * arrays[0].dtype.type(node.attrs.get("scale", 1.0))
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _layer_norm(node: Node, arrays: list[np.ndarray], shape: Shape) -> np.ndarray:
    x, gamma, beta = arrays
    d = x - x.mean(axis=-1, keepdims=True)
    variance = (d * d).mean(axis=-1, keepdims=True)
    return d / np.sqrt(variance + d.dtype.type(node.attrs["epsilon"])) * gamma + beta


def _slice(node: Node, arrays: list[np.ndarray], shape: Shape) -> np.ndarray:
    steps = zip(node.attrs["starts"], node.attrs["steps"], shape, strict=True)
    return arrays[0][np.ix_(*(start + step * np.arange(size) for start, step, size in steps))]


def _pad(node: Node, arrays: list[np.ndarray], shape: Shape) -> np.ndarray:
    widths = list(zip(node.attrs["before"], node.attrs["after"], strict=True))
    return np.pad(arrays[0], widths, constant_values=node.attrs["value"])


OPERATORS: dict[str, Operator] = {
    "Conv": _conv,
    "DepthwiseConv": _depthwise_conv,
    "Dense": _dense,
    "MatMul": _matmul,
    "Add": lambda node, arrays, shape: arrays[0] + arrays[1],
    "Sub": lambda node, arrays, shape: arrays[0] - arrays[1],
    "Mul": lambda node, arrays, shape: arrays[0] * arrays[1],
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "Unary": lambda node, arrays, shape: unary.apply(node, arrays[0]),
    "PRelu": lambda node, arrays, shape: np.where(arrays[0] >= 0, arrays[0], arrays[0] * arrays[1]),
    "Softmax": _softmax,
    "LayerNorm": _layer_norm,
    "Reshape": lambda node, arrays, shape: arrays[0].reshape(shape),
    "Transpose": lambda node, arrays, shape: arrays[0].transpose(node.attrs["perm"]),
    "Slice": _slice,
    "Pad": _pad,
    "Concat": lambda node, arrays, shape: np.concatenate(arrays, axis=node.attrs["axis"]),
    "ResizeNearest": lambda node, arrays, shape: arrays[0][:, node.attrs["rows"]][:, :, node.attrs["cols"]],
}
"""One function per operator of `graph.OPS`: node, input arrays, output shape -> output array."""
