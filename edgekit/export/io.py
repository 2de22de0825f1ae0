# SPDX-License-Identifier: Apache-2.0
"""Quantize and Dequantize, and the float interface of a program whose own is quantized."""

from __future__ import annotations

import numpy as np

from edgekit.export.builder import Builder, identity
from edgekit.program import Dequantize, Quantize


def quantize(b: Builder, op: Quantize) -> None:
    quant = b.quant(op.outputs[0])
    layout = tuple(int(d) for d in np.argsort(op.perm))
    b.write(op, "QuantizeLinear", [op.inputs[0], b.scale(quant.scale), b.zero(quant.zero_point)], layout)


def dequantize(b: Builder, op: Dequantize) -> None:
    quant = b.quant(op.inputs[0])
    q = b.read(op.inputs[0], tuple(op.perm))
    b.node("DequantizeLinear", [q, b.scale(quant.scale), b.zero(quant.zero_point)], output=op.outputs[0])


def open_port(b: Builder, name: str) -> None:
    """Leads a float32 graph input to the int8 tensor that the program reads under that name."""
    quant = b.quant(name)
    q = b.node(
        "QuantizeLinear",
        [name, b.scale(quant.scale), b.zero(quant.zero_point)],
        output=b.fresh(f"{name}_quantized"),
    )
    b.place(name, q, identity(len(b.shape(name))))


def close_port(b: Builder, name: str) -> None:
    """Leads the int8 tensor that the program writes as output `name` to a float32 graph output of that name."""
    quant = b.quant(name)
    q = b.read(name, identity(len(b.shape(name))))
    b.node("DequantizeLinear", [q, b.scale(quant.scale), b.zero(quant.zero_point)], output=name)
