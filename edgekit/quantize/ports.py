# SPDX-License-Identifier: Apache-2.0
"""Model inputs and outputs: ONNX's names, layout and type outside, int8 NHWC inside.

A Transpose directly behind an input or in front of an output costs nothing: Quantize and Dequantize
walk the caller's array in any order of dimensions.
"""

from __future__ import annotations

import numpy as np

from edgekit.data import InputSpec, Layout, Preprocessing
from edgekit.errors import ModelError
from edgekit.format.schema import Dtype, RawLayout, Region
from edgekit.graph import Graph, Node, Port
from edgekit.program import Dequantize, Quant, Quantize, Reshape, Tensor, Transpose
from edgekit.quantize import scales
from edgekit.quantize.lowering import Lowering

NCHW_TO_NHWC = (0, 2, 3, 1)
NHWC_TO_NCHW = (0, 3, 1, 2)
_RAW_LAYOUTS = {None: RawLayout.NONE, "nchw": RawLayout.NCHW, "nhwc": RawLayout.NHWC}
_SPATIAL = frozenset({"Conv", "DepthwiseConv", "MaxPool", "AveragePool", "ResizeNearest"})
_ELEMENTWISE = frozenset({"Unary", "Add", "Sub", "Mul", "PRelu"})


def input_specs(graph: Graph) -> list[InputSpec]:
    """The model's inputs as `data` wants to know them."""
    return [InputSpec(p.name, tuple(p.shape), _own_layout(graph, p)) for p in graph.inputs]


def lower_inputs(low: Lowering) -> None:
    """A tensor of region IO for every input, and with float I/O a Quantize behind it."""
    for port in low.graph.inputs:
        value, perm = _behind(low.graph, port)
        if value != port.value:
            low.done.add(id(low.graph.producer(value)))
        if low.options.io == "int8":
            _int8_input(low, port, value, perm)
        else:
            _float_input(low, port, value, perm)
        low.program.inputs.append(port.name)


def plan_outputs(low: Lowering) -> None:
    """Settles, before operators are written, which nodes outputs take over and which write to the caller."""
    for port in low.graph.outputs:
        node, perm = _in_front(low.graph, port)
        takes_over = node is not None and id(node) not in low.done
        if node is None or not takes_over or (low.options.io == "int8" and not _wants_nhwc(low, perm)):
            low.outputs[port.name] = port.value, tuple(range(len(port.shape)))
        else:
            low.done.add(id(node))
            low.outputs[port.name] = node.inputs[0], perm
    if low.options.io == "int8":
        for port in low.graph.outputs:
            value, _ = low.outputs[port.name]
            if _written_once_for(low, value):
                low.define_as(value, _int8_tensor(low, port, value))


def lower_outputs(low: Lowering) -> None:
    """A tensor of region IO for every output, written by Dequantize or, with int8 I/O, directly."""
    for port in low.graph.outputs:
        low.program.outputs.append(port.name)
        value, perm = low.outputs[port.name]
        source = low.operand(value)
        if source == port.name:
            continue
        if low.options.io == "int8":
            low.program.add(_int8_tensor(low, port, value))
            low.emit(Reshape(port.name, [source], [port.name]))
            continue
        if _wants_nhwc(low, perm):
            perm = tuple(range(4))
        shape = low.program.tensors[source].shape
        outside = tuple(shape[p] for p in perm)
        low.program.add(Tensor(port.name, outside, Dtype.F32, None, Region.IO))
        low.emit(Dequantize(port.name, [source], [port.name], perm))


def port_orders(graph: Graph) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """How the int8 tensors beside inputs and outputs with float I/O stand to ONNX's arrays.

    Returns:
        Input -> perm: dimension i of the tensor is dimension perm[i] of ONNX's array. Output -> perm:
        dimension i of ONNX's array is dimension perm[i] of the tensor.
    """
    inputs, done = {}, set()
    for port in graph.inputs:
        value, inputs[port.name] = _behind(graph, port)
        if value != port.value:
            done.add(id(graph.producer(value)))
    outputs = {}
    for port in graph.outputs:
        node, perm = _in_front(graph, port)
        outputs[port.name] = tuple(range(len(port.shape))) if node is None or id(node) in done else perm
    return inputs, outputs


def exact_input_range(spec: InputSpec, preprocessing: Preprocessing, dtype: Dtype) -> tuple[float, float]:
    """What raw bytes become: a scale made for it loses nothing where mean and std are scalars."""
    values = preprocess_bytes(spec, preprocessing, dtype)
    return float(values.min()), float(values.max())


def preprocess_bytes(spec: InputSpec, preprocessing: Preprocessing, dtype: Dtype) -> np.ndarray:
    """f32(f32(x - mean) / std) of every raw byte, float32[1 or C][256], indexed by uint8 or int8 + 128."""
    mean, std = preprocessing.per_channel(spec)
    raw = np.arange(256, dtype=np.float32) - np.float32(128 if dtype == Dtype.I8 else 0)
    return (raw - mean[:, None]) / std[:, None]


# ---- Inputs ------------------------------------------------------------------------------------


def _float_input(low: Lowering, port: Port, value: str, perm: tuple[int, ...]) -> None:
    program, quant = low.program, low.quant(value)
    inner = low.graph.values[value]
    outside = tuple(port.shape)
    quantize = Quantize(port.name, [port.name], [], perm)
    _record_raw(low, port, quantize, perm, quant)
    if _wants_nhwc(low, perm):
        outside, quantize.perm = tuple(inner.shape), tuple(range(4))
    program.add(Tensor(port.name, outside, Dtype.F32, None, Region.IO))
    tensor = Tensor(low.fresh(port.name), tuple(inner.shape), Dtype.I8, quant)
    tensor.source, tensor.source_perm = inner.source, inner.source_perm
    low.define_as(value, tensor)
    quantize.outputs = [tensor.name]
    low.emit(quantize)


def _int8_input(low: Lowering, port: Port, value: str, perm: tuple[int, ...]) -> None:
    inner = low.graph.values[value]
    quant = low.quant(value)
    if perm == tuple(range(len(perm))) or _wants_nhwc(low, perm):
        tensor = Tensor(port.name, tuple(inner.shape), Dtype.I8, quant, Region.IO)
        tensor.source, tensor.source_perm = inner.source, inner.source_perm
        low.define_as(value, tensor)
        return
    low.program.add(Tensor(port.name, tuple(port.shape), Dtype.I8, quant, Region.IO, source=port.name))
    low.emit(Transpose(port.name, [port.name], [low.define(value)], perm))


def _record_raw(low: Lowering, port: Port, op: Quantize, perm: tuple[int, ...], quant: Quant) -> None:
    """The exact table from raw bytes to the quantized input, and what it was made from."""
    preprocessing = low.options.preprocessing
    spec = InputSpec(port.name, tuple(port.shape), _own_layout(low.graph, port))
    if not preprocessing.applies_to(spec, len(low.graph.inputs)):
        return
    dtype = low.options.raw_dtypes.get(port.name, Dtype.U8)
    raw_perm = preprocessing.raw_perm(spec)
    op.raw_dtype = dtype
    op.raw_perm = tuple(raw_perm[p] for p in perm)
    op.raw_layout = _RAW_LAYOUTS[preprocessing.raw_layout(spec)]
    op.raw_table = scales.quantize(preprocess_bytes(spec, preprocessing, dtype), quant)
    op.raw_mean, op.raw_std = preprocessing.per_channel(spec)
    op.table_axis = perm.index(spec.channel_axis) if len(op.raw_table) > 1 else 0


def _behind(graph: Graph, port: Port) -> tuple[str, tuple[int, ...]]:
    """The value that Quantize can write directly and the order of its dimensions."""
    identity = tuple(range(len(port.shape)))
    consumers = graph.consumers(port.value)
    if len(consumers) != 1 or graph.is_output(port.value) or _feeds_twice(graph, port):
        return port.value, identity
    perm = _order(graph, consumers[0])
    return (port.value, identity) if perm is None else (consumers[0].outputs[0], perm)


def _feeds_twice(graph: Graph, port: Port) -> bool:
    return sum(p.value == port.value for p in graph.inputs) > 1


# ---- Outputs -----------------------------------------------------------------------------------


def _in_front(graph: Graph, port: Port) -> tuple[Node | None, tuple[int, ...]]:
    """The node that only reorders the output's dimensions and their order; no node where there is none."""
    identity = tuple(range(len(port.shape)))
    node = graph.producer(port.value)
    if node is None or graph.consumers(port.value) or sum(p.value == port.value for p in graph.outputs) > 1:
        return None, identity
    perm = _order(graph, node)
    if perm is None or graph.constant(node.inputs[0]) is not None:
        return None, identity
    return node, perm


def _written_once_for(low: Lowering, value: str) -> bool:
    """Whether the operator that computes `value` can write it into the caller's buffer."""
    graph = low.graph
    readers = sum(v == value for v, _ in low.outputs.values())
    others = [n for n in graph.consumers(value) if id(n) not in low.done]
    node = graph.producer(value)
    return readers == 1 and not others and node is not None and id(node) not in low.done


def _int8_tensor(low: Lowering, port: Port, value: str) -> Tensor:
    inner = low.graph.values[value]
    if low.graph.constant(value) is not None:
        raise ModelError(f"output '{port.name}' is a constant; remove it or keep float outputs")
    tensor = Tensor(port.name, tuple(inner.shape), Dtype.I8, low.quant(value), Region.IO)
    tensor.source, tensor.source_perm = inner.source, inner.source_perm
    return tensor


# ---- Layout ------------------------------------------------------------------------------------


def _wants_nhwc(low: Lowering, perm: tuple[int, ...]) -> bool:
    return low.options.io_layout == "nhwc" and perm in (NCHW_TO_NHWC, NHWC_TO_NCHW)


def _order(graph: Graph, node: Node) -> tuple[int, ...] | None:
    """perm where `node` only reorders dimensions; a Reshape between image layouts counts too."""
    if node.op == "Transpose":
        return tuple(int(p) for p in node.attrs["perm"])
    if node.op != "Reshape":
        return None
    before = graph.values[node.inputs[0]].shape
    after = graph.values[node.outputs[0]].shape
    for perm in (NCHW_TO_NHWC, NHWC_TO_NCHW):
        if len(before) == 4 and tuple(before[p] for p in perm) == tuple(after) and _same_bytes(before, perm):
            return perm
    return None


def _same_bytes(shape: tuple[int, ...], perm: tuple[int, ...]) -> bool:
    """Whether a transposition leaves the elements in place: only dimensions of 1 change sides."""
    moved = [p for p in perm if shape[p] != 1]
    return moved == sorted(moved)


def _own_layout(graph: Graph, port: Port) -> Layout | None:
    """The layout of an image input, from the first operator that tells; None where none does."""
    if len(port.shape) != 4:
        return None
    pending, seen = [port.value], set[str]()
    while pending:
        value = pending.pop(0)
        if value in seen:
            continue
        seen.add(value)
        for node in graph.consumers(value):
            if _order(graph, node) == NCHW_TO_NHWC:
                return "nchw"
            if node.op in _SPATIAL:
                return "nhwc"
            if node.op in _ELEMENTWISE:
                pending.extend(node.outputs)
    return None
