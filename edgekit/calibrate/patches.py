# SPDX-License-Identifier: Apache-2.0
"""A sample of what each layer with weights reads: inputs of single output positions.

The quantizer rounds weights and corrects biases against them.
"""

from __future__ import annotations

import math

import numpy as np

from edgekit.graph import Graph, Node

LAYERS = ("Conv", "DepthwiseConv", "Dense")
LAYER_VALUES = 2**20
"""Values kept per layer at most."""
_TOTAL_VALUES = 2**25
_MAX_ROWS = 4096


class Patches:
    """Random rows [KH, KW, C], or [K] for Dense, of one layer's input, streamed.

    Args:
        graph: holds `node`.
        node: a Conv, DepthwiseConv or Dense.
        samples: how many samples will stream; rows are spread evenly over them.
        layers: number of layers that share the memory.
    """

    def __init__(self, graph: Graph, node: Node, samples: int, layers: int) -> None:
        self._node = node
        w = graph.constant(node.inputs[1])
        assert w is not None
        self._kernel = _kernel(node, w)
        self._x_shape = graph.values[node.inputs[0]].shape
        self._y_shape = graph.values[node.outputs[0]].shape
        size = math.prod(self._kernel) * self._x_shape[-1]
        limit = min(LAYER_VALUES, _TOTAL_VALUES // max(layers, 1))
        self._wanted = max(min(limit // max(size, 1), _MAX_ROWS), 1)
        self._samples = max(samples, 1)
        self._seen = 0
        self._rows = np.empty((self._wanted, *self._kernel, self._x_shape[-1]), np.float32)
        self._count = 0
        self._rng = np.random.default_rng(0)

    def add(self, x: np.ndarray, count: int) -> None:
        """Takes its share of rows from one execution's input, of which `count` samples are real."""
        self._seen += count
        due = min(self._wanted * self._seen // self._samples, self._wanted) - self._count
        if due <= 0:
            return
        x = x.reshape(self._x_shape)
        real = count if len(x) >= count and self._node.op != "Dense" else None
        rows = self._dense(x, due) if self._node.op == "Dense" else self._windows(x[:real], due)
        self._rows[self._count : self._count + len(rows)] = rows
        self._count += len(rows)

    def rows(self) -> np.ndarray:
        """float32[R, KH, KW, C] or [R, K]"""
        return self._rows[: self._count]

    def _dense(self, x: np.ndarray, due: int) -> np.ndarray:
        flat = x.reshape(-1, x.shape[-1])
        return flat[self._rng.permutation(len(flat))[:due]]

    def _windows(self, x: np.ndarray, due: int) -> np.ndarray:
        """Inputs under random output positions; zero outside of the image."""
        n, height, width, _ = x.shape
        positions = n * self._y_shape[1] * self._y_shape[2]
        picked = self._rng.permutation(positions)[:due]
        image, oh, ow = np.unravel_index(picked, (n, self._y_shape[1], self._y_shape[2]))
        (sh, sw), (dh, dw) = self._node.attrs["strides"], self._node.attrs["dilations"]
        top, left = self._node.attrs["pads"][:2]
        rows = oh[:, None] * sh - top + np.arange(self._kernel[0]) * dh
        cols = ow[:, None] * sw - left + np.arange(self._kernel[1]) * dw
        inside = ((rows >= 0) & (rows < height))[:, :, None] & ((cols >= 0) & (cols < width))[:, None, :]
        taken = x[
            image[:, None, None], _within(rows, height)[:, :, None], _within(cols, width)[:, None, :]
        ]
        return taken if inside.all() else np.where(inside[..., None], taken, 0)


def _within(index: np.ndarray, size: int) -> np.ndarray:
    """The nearest index there is; `numpy.clip` takes several times as long for few of them."""
    return np.minimum(np.maximum(index, 0), size - 1)


def grouped_rows(graph: Graph, node: Node, rows: np.ndarray) -> np.ndarray:
    """`Patches.rows` by group of output channels that read the same inputs: [G, R, K]."""
    if node.op == "DepthwiseConv":
        rows = np.moveaxis(rows, -1, 0)
    elif node.op == "Conv":
        groups = int(node.attrs.get("groups", 1))
        split = rows.reshape(*rows.shape[:-1], groups, rows.shape[-1] // groups)
        rows = np.moveaxis(split, -2, 0)
    else:
        rows = rows[None]
    return rows.reshape(rows.shape[0], rows.shape[1], -1)


def grouped_weights(graph: Graph, node: Node) -> np.ndarray:
    """The layer's weights for `grouped_rows`: float32[G, O / G, K]."""
    w = graph.constant(node.inputs[1])
    assert w is not None
    if node.op == "DepthwiseConv":
        w, groups = np.moveaxis(w, -1, 0), graph.values[node.inputs[0]].shape[-1]
    else:
        groups = int(node.attrs.get("groups", 1))
    return np.asarray(w, np.float32).reshape(groups, w.shape[0] // groups, -1)


def _kernel(node: Node, w: np.ndarray) -> tuple[int, ...]:
    if node.op == "Conv":
        return w.shape[1], w.shape[2]
    return w.shape[:2] if node.op == "DepthwiseConv" else ()
