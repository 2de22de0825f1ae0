# SPDX-License-Identifier: Apache-2.0
"""Float against quantized, layer by layer: which layer lost the accuracy?

The `.ekm` stores no link to the ONNX model but its tensors' names. The ONNX model is therefore
imported again: the same passes give the same names, and the graph knows which ONNX tensor holds
each of them, in which layout.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgekit.calibrate.taps import Taps
from edgekit.commands import Progress
from edgekit.data import DataSource, Preprocessing, open_data
from edgekit.engines import EdgekitEngine
from edgekit.errors import ModelError
from edgekit.format import reader
from edgekit.graph import Graph, Value
from edgekit.program import Dequantize, Program, Quantize, Tensor
from edgekit.quantize.ports import NCHW_TO_NHWC, input_specs, port_orders
from edgekit.runtime.model import Model, Port

Order = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """One tensor: signal over quantization noise in decibels (infinite where equal), and the largest
    difference in the unit of the float tensor."""

    name: str
    op: str
    sqnr_db: float
    max_abs_error: float


@dataclass(frozen=True)
class Comparison:
    layers: list[Layer]
    output_sqnr_db: float
    samples: int


class _Noise:
    """Running sums of one tensor over all samples."""

    def __init__(self) -> None:
        self.signal = self.noise = self.largest = 0.0

    def add(self, wanted: np.ndarray, got: np.ndarray) -> None:
        wanted = wanted.astype(np.float64)
        difference = wanted - got
        self.signal += float((wanted**2).sum())
        self.noise += float((difference**2).sum())
        self.largest = max(self.largest, float(np.abs(difference).max(initial=0.0)))

    @property
    def sqnr_db(self) -> float:
        if self.noise == 0:
            return math.inf
        return 10 * math.log10(self.signal / self.noise) if self.signal else -math.inf


@dataclass(frozen=True)
class _Pair:
    """A tensor of the program, at `index`, what it is in the graph, and their difference so far."""

    tensor: Tensor
    index: int
    op: str
    value: Value
    name: str
    noise: _Noise

    def add(self, floats: Mapping[str, np.ndarray], tensors: Mapping[int, np.ndarray]) -> None:
        """One batch: the float model's tensors by name, the program's by index."""
        self.noise.add(_canonical(floats[self.value.source or ""], self.value), _real(tensors[self.index], self.tensor))

    def layer(self) -> Layer:
        return Layer(self.name, self.op, self.noise.sqnr_db, self.noise.largest)


def compare(
    onnx_model: Path,
    ekm_model: Path,
    data: DataSource,
    preprocessing: Preprocessing | None = None,
    *,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    samples: int | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Feeds the same samples to the float model in ONNX Runtime and to the `.ekm` in the C runtime.

    Args:
        data: samples; raw where the `.ekm` records how to read them and they are of that element type, or
            where `preprocessing` is given. The quantized model gets the float model's input.
        preprocessing: needed where the `.ekm` records none and the data is raw; else it must agree.

    Raises:
        ModelError: the `.ekm` was not converted from this ONNX model.
        DataError: data that does not fit, or another `preprocessing` than the recorded one.
    """
    from edgekit import importer
    from edgekit.passes import pipeline

    imported = importer.load(onnx_model, input_shapes=input_shapes)
    graph = imported.graph
    pipeline.optimize(graph)
    program = reader.read(ekm_model)
    engine = EdgekitEngine(ekm_model)
    model = engine.model
    given = preprocessing or Preprocessing()
    recorded = engine.recorded(given)
    pairs = _pairs(program, graph)
    if not any(pair.tensor.name in graph.values for pair in pairs):  # outputs are named alike everywhere
        raise ModelError(f"{ekm_model}: no tensor of it is named in {onnx_model}; it was converted from another model, or stripped")

    orders = _orders(ekm_model, program, model, graph)
    outputs = [port.name for port in graph.outputs]
    sizes = {pair.value.source: pair.tensor.size for pair in pairs if pair.value.source}
    sizes |= dict.fromkeys(outputs, 1)
    taps = Taps(imported.float_model, sizes)
    known = {name: _for_onnx(recorded[name], orders[name]) for name in recorded}
    dataset = open_data(data, input_specs(graph), given, samples, known)
    output = _Noise()
    done = 0
    for batch in dataset.batches():
        results, tensors = model.trace(_fed(model, batch.inputs, orders))
        floats = {name: array for i in range(taps.passes) for name, array in taps.run(i, batch.inputs)}
        for pair in pairs:
            pair.add(floats, tensors)
        for name, port in zip(outputs, model.outputs, strict=True):
            output.add(floats[name], _output(results[port.name], port, orders[name]))
        done += batch.count
        if progress:
            progress("comparing", done, dataset.samples)
    return Comparison([pair.layer() for pair in pairs], output.sqnr_db, dataset.samples)


def _pairs(program: Program, graph: Graph) -> list[_Pair]:
    """The quantized tensors that the graph has too, in order of computation."""
    indexes = {name: i for i, name in enumerate(program.tensors)}
    names = _float_names(program, graph)
    pairs = []
    for op in program.ops:
        for tensor in (program.tensors[name] for name in op.outputs):
            name = names[tensor.name]
            value = graph.values.get(name)
            if tensor.quant is not None and value is not None and value.source is not None and value.shape == tensor.shape:
                pairs.append(_Pair(tensor, indexes[tensor.name], op.opcode.name.lower(), value, name, _Noise()))
    return pairs


def _orders(path: Path, program: Program, model: Model, graph: Graph) -> dict[str, Order]:
    """Input or output -> order: dimension i of the `.ekm`'s array is dimension order[i] of ONNX's.

    Raises:
        ModelError: the arrays are no permutations of each other, or nothing tells which one it is.
    """
    inner, outer = port_orders(graph)
    beside = {op.inputs[0]: op.perm for op in program.ops if isinstance(op, Quantize)}
    beside |= {op.outputs[0]: op.perm for op in program.ops if isinstance(op, Dequantize)}
    shapes = {port.name: tuple(port.shape) for port in (*graph.inputs, *graph.outputs)}
    orders = {}
    for port in (*model.inputs, *model.outputs):
        shape, perm = shapes.get(port.name, ()), beside.get(port.name)
        own = inner[port.name] if port.name in inner else _inverse(outer.get(port.name, ()))
        if perm is None:
            order = _order_by_shape(path, port, shape, own)
        else:  # both are permutations of the int8 tensor in between
            ekm = perm if port.name in inner else _inverse(perm)
            order = tuple(own[i] for i in _inverse(ekm)) if len(own) == len(ekm) else ()
        if len(order) != len(shape) or tuple(shape[i] for i in order) != port.shape:
            raise ModelError(f"{path}: '{port.name}' is {list(port.shape)}, in the ONNX model {list(shape)}; it was converted from another model")
        orders[port.name] = order
    return orders


def _order_by_shape(path: Path, port: Port, shape: tuple[int, ...], own: Order) -> Order:
    """The order of a quantized port, which has no operator that records it: ONNX's, or that of the tensor inside."""
    same = tuple(range(len(shape)))
    if shape != port.shape:
        return NCHW_TO_NHWC if len(shape) == 4 else same
    if own == same or any(shape[i] != n for i, n in zip(own, shape, strict=True)) or set(shape[1:]) == {1}:
        return same
    raise ModelError(
        f"{path}: the shape {list(shape)} of the quantized '{port.name}' does not tell nchw from nhwc; "
        "convert without --io int8 to compare"
    )


def _inverse(order: Order) -> Order:
    return tuple(int(i) for i in np.argsort(order))


def _for_onnx(recorded: Preprocessing, order: Order) -> Preprocessing:
    """What is recorded for the `.ekm`'s array, for ONNX's."""
    assert recorded.perm is not None
    perm = tuple(recorded.perm[i] for i in _inverse(order))
    return replace(recorded, perm=perm, axis=None if recorded.axis is None else order[recorded.axis])


def _float_names(program: Program, graph: Graph) -> dict[str, str]:
    """Tensor -> its name in the graph. What a Dequantize alone reads has a name of its own, but is the float
    output itself; a permutation would make it another array."""
    names = {name: name for name in program.tensors}
    for op in program.ops:
        if isinstance(op, Dequantize) and op.inputs[0] not in graph.values and op.perm == tuple(range(len(op.perm))):
            names[op.inputs[0]] = op.outputs[0]
    return names


def _canonical(array: np.ndarray, value: Value) -> np.ndarray:
    """An ONNX tensor in the layout of the graph's value."""
    if value.source_perm is not None:
        array = array.transpose(value.source_perm)
    return array.reshape(value.shape)


def _real(elements: np.ndarray, tensor: Tensor) -> np.ndarray:
    """What the quantized elements stand for."""
    assert tensor.quant is not None
    centred = elements.reshape(tensor.shape).astype(np.float64) - tensor.quant.zero_point
    return float(tensor.quant.scale) * centred


def _fed(model: Model, inputs: Mapping[str, np.ndarray], orders: Mapping[str, Order]) -> dict[str, np.ndarray]:
    """The float model's inputs as the `.ekm` declares them."""
    arrays = {}
    for port in model.inputs:
        x = inputs[port.name].transpose(orders[port.name])
        if port.format == "int8":
            x = np.clip(np.rint(x / np.float32(port.scale)) + port.zero_point, -128, 127).astype(np.int8)
        arrays[port.name] = x
    return arrays


def _output(array: np.ndarray, port: Port, order: Order) -> np.ndarray:
    """An output of the `.ekm` as the float model's float output."""
    if array.dtype == np.int8:
        array = port.scale * (array.astype(np.float64) - port.zero_point)
    return array.transpose(_inverse(order))
