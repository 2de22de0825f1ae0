# SPDX-License-Identifier: Apache-2.0
"""The float graph between import and quantization.

`importer` makes a `Graph` from an ONNX file, `passes` rewrite it, `calibrate` learns its
ranges, `quantize` lowers it to an integer `Program`. Its operators are few and canonical:
a node's `op` is one of `OPS` below, its images are NHWC, and every constant is a NumPy array in
`Value.data`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

OPS: dict[str, str] = {
    # op: inputs -> attributes; w, b, slope are constants. These shapes hold from import on: an ONNX
    # handler puts Transpose and Reshape nodes around a spatial operator, the passes cancel them.
    "Conv": "x[N,H,W,C], w[O,KH,KW,C/groups], b[O] -> strides, dilations (h,w), pads (top,left,bottom,right), groups",
    "DepthwiseConv": "x[N,H,W,C], w[KH,KW,O], b[O] -> strides, dilations, pads",
    "Dense": "x[...,K], w[O,K], b[O]",
    "MatMul": "a[...,M,K], b[...,K,N] -> transposed (bool): b is [...,N,K]; False where it is left out",
    "Add": "a, b (broadcast; either may be constant)",
    "Sub": "a, b (broadcast; either may be constant)",
    "Mul": "a, b (broadcast; either may be constant)",
    "MaxPool": "x -> kernel, strides, dilations, pads",
    "AveragePool": "x -> kernel, strides, dilations, pads, count_include_pad (bool)",
    "Unary": "x -> fn (name in passes.unary.FUNCTIONS), params (dict); after merging chain: (fn, params) steps; read by unary.chain",
    "PRelu": "x[...,C], slope[C]",
    "Softmax": "x, over the last dimension -> scale (a factor of x; 1 where it is left out)",
    "LayerNorm": "x[...,C], gamma[C], beta[C], over the last dimension -> epsilon",
    "Reshape": "x -> the output value's shape",
    "Transpose": "x -> perm",
    "Slice": "x -> starts, steps (one per dimension; sizes are the output value's shape)",
    "Pad": "x -> before, after (one per dimension), value",
    "Concat": "xs -> axis",
    "ResizeNearest": "x[N,H,W,C] -> rows, cols (int arrays of source indexes)",
}
"""Any node that computes (Conv to AveragePool, PRelu, LayerNorm) may also carry `clip`: (lo, hi), a fused
activation; infinities stand for an open end."""


@dataclass
class Value:
    """A tensor of the graph.

    `source` is the name of the ONNX tensor that holds the same numbers and `source_perm` the
    transposition that brings it here: `here = onnx_array.transpose(source_perm).reshape(shape)`,
    no transposition where it is None. A value that no ONNX tensor holds has no source.
    """

    name: str
    shape: tuple[int, ...]
    data: np.ndarray | None = None
    source: str | None = None
    source_perm: tuple[int, ...] | None = None


@dataclass
class Node:
    """One operator. `name` is the ONNX node it came from, for messages and reports."""

    op: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attrs: dict[str, Any] = field(default_factory=dict)


@dataclass
class Port:
    """A model input or output as ONNX declares it: float32, ONNX's name, shape and layout.

    `value` names a `Value` of the same shape; Transpose nodes lead from there to NHWC.
    """

    name: str
    shape: tuple[int, ...]
    value: str


@dataclass
class Graph:
    """Nodes in topological order over named values.

    Attributes:
        batch_norm_stats: value name -> (mean[C], std[C]) of its elements as a BatchNormalization
            declares them, channels last; the source of ranges where no calibration data is given.
    """

    name: str
    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)
    values: dict[str, Value] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    batch_norm_stats: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def producer(self, value: str) -> Node | None:
        """The node that writes `value`; None for inputs and constants."""
        return next((n for n in self.nodes if value in n.outputs), None)

    def consumers(self, value: str) -> list[Node]:
        """The nodes that read `value`, once each."""
        return [n for n in self.nodes if value in n.inputs]

    def is_output(self, value: str) -> bool:
        """Whether a model output reads `value`."""
        return any(p.value == value for p in self.outputs)

    def constant(self, value: str) -> np.ndarray | None:
        """The data of a constant; None for an activation."""
        return self.values[value].data

    def activations(self) -> Iterator[Value]:
        """Values that are computed or fed, in order of first appearance."""
        return (v for v in self.values.values() if v.data is None)

    def fresh(self, stem: str) -> str:
        """A value name starting with `stem` that is not in use."""
        name, n = stem, 1
        while name in self.values:
            name, n = f"{stem}_{n}", n + 1
        return name
