# SPDX-License-Identifier: Apache-2.0
"""An ONNX graph under construction, and where each tensor of the program lies in it.

Convolutions are NHWC in a program and NCHW in ONNX. Instead of transposing around each of them, the
graph keeps every tensor in the layout of the node that wrote it, and a reader that needs another one
asks for it: `onnx_array = tensor.transpose(perm)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgekit.program import Op, Program, Quant, Tensor

OPSET = 13
"""The first whose QuantizeLinear, reductions and Clip are all in today's form; every ONNX Runtime since 1.6 reads it."""
IR_VERSION = 7

NCHW = (0, 3, 1, 2)

Perm = tuple[int, ...]


@dataclass(frozen=True)
class Placement:
    """A program tensor in the ONNX graph: `name` holds `tensor.transpose(perm)`."""

    name: str
    perm: Perm


def identity(rank: int) -> Perm:
    """The layout of the program itself."""
    return tuple(range(rank))


class Builder:
    """Collects nodes and initializers.

    Attributes:
        program: what is being spelled.
        placements: program tensor -> where it lies.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.placements: dict[str, Placement] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[tuple[str, tuple[int, ...], bytes], onnx.TensorProto] = {}
        self._moved: dict[tuple[str, Perm], str] = {}
        self._used = {t.name for t in program.tensors.values() if t.data is None}

    # ---- names and constants

    def fresh(self, stem: str) -> str:
        """A tensor name starting with `stem` that nothing else has."""
        name, n = stem, 1
        while name in self._used:
            name, n = f"{stem}_{n}", n + 1
        self._used.add(name)
        return name

    def constant(self, array: np.ndarray, stem: str = "constant") -> str:
        """An initializer holding `array`; equal ones are shared."""
        array = np.ascontiguousarray(array)
        key = (str(array.dtype), array.shape, array.tobytes())
        if key not in self._initializers:
            self._initializers[key] = numpy_helper.from_array(array, self.fresh(stem))
        return self._initializers[key].name

    def scale(self, value: np.float32 | float) -> str:
        """A float32 scalar."""
        return self.constant(np.array(value, np.float32), "scale")

    def zero(self, value: int) -> str:
        """An int8 scalar."""
        return self.constant(np.array(value, np.int8), "zero")

    def ints(self, values: Any) -> str:
        """An int64 vector: shapes, axes, pads."""
        return self.constant(np.array(list(values), np.int64), "ints")

    # ---- the program

    def tensor(self, name: str) -> Tensor:
        return self.program.tensors[name]

    def data(self, name: str) -> np.ndarray:
        """The elements of a constant."""
        data = self.program.tensors[name].data
        assert data is not None, f"tensor {name} is no constant"
        return data

    def quant(self, name: str) -> Quant:
        quant = self.program.tensors[name].quant
        assert quant is not None, f"tensor {name} has no scale"
        return quant

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.program.tensors[name].shape)

    # ---- nodes

    def node(self, op_type: str, inputs: list[str], *, output: str | None = None, **attributes: Any) -> str:
        """Adds a node with one output and returns that output's name."""
        output = output or self.fresh(f"{inputs[0]}_{op_type.lower()}")
        self._nodes.append(helper.make_node(op_type, inputs, [output], name=output, **attributes))
        return output

    def place(self, tensor: str, name: str, perm: Perm) -> None:
        """States that ONNX tensor `name` holds program tensor `tensor` in layout `perm`."""
        self.placements[tensor] = Placement(name, perm)
        self._moved[tensor, perm] = name

    def output_name(self, op: Op) -> str:
        """The ONNX name of what `op` writes: the program's own, unless the public float port needs that."""
        name = op.outputs[0]
        return self.fresh(f"{name}_quantized") if name in self.program.outputs else name

    def write(
        self,
        op: Op,
        op_type: str,
        inputs: list[str],
        perm: Perm,
        lo: int = -128,
        hi: int = 127,
        **attributes: Any,
    ) -> None:
        """Adds the node that writes `op`'s int8 output in layout `perm`, with a Clip behind it for a narrower clamp."""
        name = self.output_name(op)
        if (lo, hi) == (-128, 127):
            self.node(op_type, inputs, output=name, **attributes)
        else:
            unclamped = self.node(op_type, inputs, **attributes)
            self.node("Clip", [unclamped, self.zero(lo), self.zero(hi)], output=name)
        self.place(op.outputs[0], name, perm)

    def write_rounded(self, op: Op, real: str, perm: Perm, lo: int, hi: int) -> None:
        """Ends `op` with `sat(rne(real) + zero)`: QuantizeLinear divides by 1, which changes nothing."""
        zero = self.zero(self.quant(op.outputs[0]).zero_point)
        self.write(op, "QuantizeLinear", [real, self.scale(1), zero], perm, lo, hi)

    # ---- layouts

    def perm(self, tensor: str) -> Perm:
        """The layout in which `tensor` was written; a constant has that of the program."""
        if self.tensor(tensor).data is not None:
            return identity(len(self.shape(tensor)))
        return self.placements[tensor].perm

    def read(self, tensor: str, perm: Perm) -> str:
        """The name of an ONNX tensor holding `tensor` in layout `perm`, transposed once if need be."""
        data = self.tensor(tensor).data
        if data is not None:
            return self.constant(data.transpose(perm), tensor)
        if (tensor, perm) not in self._moved:
            name, source = self.placements[tensor].name, self.placements[tensor].perm
            moved = self.node("Transpose", [name], perm=[source.index(d) for d in perm])
            self._moved[tensor, perm] = moved
        return self._moved[tensor, perm]

    def read_flat(self, tensor: str) -> str:
        """An ONNX tensor whose elements stand in the program's order; its shape may differ from the program's."""
        kept = [d for d in self.perm(tensor) if self.shape(tensor)[d] != 1]
        return self.read(
            tensor, self.perm(tensor) if kept == sorted(kept) else identity(len(self.shape(tensor)))
        )

    def reshape(self, name: str, shape: tuple[int, ...], output: str | None = None) -> str:
        """A Reshape node."""
        return self.node("Reshape", [name, self.ints(shape)], output=output)

    # ---- float steps on int8 data

    def centered(self, name: str, zero: int) -> str:
        """`f32(q - zero)`: exact."""
        return self.node("Sub", [self.node("Cast", [name], to=TensorProto.FLOAT), self.scale(zero)])

    def model(self, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]) -> onnx.ModelProto:
        """The finished model."""
        graph = helper.make_graph(
            self._nodes, self.program.name or "edgekit", inputs, outputs, list(self._initializers.values())
        )
        model = helper.make_model(
            graph, producer_name="edgekit", opset_imports=[helper.make_opsetid("", OPSET)]
        )
        model.ir_version = IR_VERSION
        return model
