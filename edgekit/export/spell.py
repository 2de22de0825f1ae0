# SPDX-License-Identifier: Apache-2.0
"""Spells a program as ONNX, operator by operator."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import onnx
from onnx import TensorProto, helper

from edgekit import program as p
from edgekit.export import conv, elementwise, io, layer_norm, matmul, move, pool, softmax
from edgekit.export.builder import Builder, Placement
from edgekit.format.schema import Dtype
from edgekit.format.summary import preprocessing

METADATA = "edgekit.raw."

SPELLINGS: dict[type[p.Op], Callable[..., None]] = {
    p.Quantize: io.quantize,
    p.Dequantize: io.dequantize,
    p.Conv2D: conv.conv2d,
    p.DepthwiseConv2D: conv.depthwise_conv2d,
    p.Dense: conv.dense,
    p.MatMul: matmul.matmul,
    p.MatMulTransposed: matmul.matmul_transposed,
    p.Add: elementwise.add,
    p.Mul: elementwise.mul,
    p.Lut: elementwise.lut,
    p.PRelu: elementwise.prelu,
    p.MaxPool: pool.max_pool,
    p.AveragePool: pool.average_pool,
    p.Softmax: softmax.softmax,
    p.LayerNorm: layer_norm.layer_norm,
    p.Reshape: move.reshape,
    p.Transpose: move.transpose,
    p.Slice: move.strided_slice,
    p.Pad: move.pad,
    p.Concat: move.concat,
    p.ResizeNearest: move.resize_nearest,
}


@dataclass(frozen=True)
class Exported:
    """A program as ONNX.

    Attributes:
        model: the ONNX model, with the program's float interface.
        placements: program tensor -> the ONNX tensor that holds it, and in which layout.
    """

    model: onnx.ModelProto
    placements: dict[str, Placement]

    @property
    def nonstandard_ops(self) -> list[str]:
        """Operators outside the ai.onnx domain, as domain.type."""
        return nonstandard_ops(self.model)


def nonstandard_ops(model: onnx.ModelProto) -> list[str]:
    """Operators of `model` outside the ai.onnx domain, as domain.type, sorted."""
    return sorted({f"{n.domain}.{n.op_type}" for n in model.graph.node if n.domain not in ("", "ai.onnx")})


def spell(program: p.Program) -> Exported:
    """The same integer model as ONNX.

    Inputs and outputs are float32 with the program's names, shapes and layouts, also where the program's
    own interface is quantized. A default `onnxruntime.InferenceSession` gives the program's bits. What the
    program records of raw data stands in the model's metadata, a JSON object per input under `METADATA` + name.
    """
    b = Builder(program)
    for name in program.inputs:
        if program.tensors[name].dtype != Dtype.F32:
            io.open_port(b, name)
    for op in program.ops:
        SPELLINGS[type(op)](b, op)
    for name in program.outputs:
        if program.tensors[name].dtype != Dtype.F32:
            io.close_port(b, name)
    model = b.model([_port(program, n) for n in program.inputs], [_port(program, n) for n in program.outputs])
    helper.set_model_props(model, {METADATA + name: json.dumps(raw) for name, raw in preprocessing(program).items()})
    onnx.checker.check_model(model)
    return Exported(model, b.placements)


def _port(program: p.Program, name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(program.tensors[name].shape))
