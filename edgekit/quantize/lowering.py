# SPDX-License-Identifier: Apache-2.0
"""Walks the graph and lets one function per operator write the integer program.

A lowering reads the scales of its inputs and outputs and emits operators. Where it finds that an
exact result needs a larger scale it asks for that (`raise_scale`), and the walk starts over: scales
only ever grow, so this ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from edgekit.data import Preprocessing
from edgekit.errors import ModelError
from edgekit.format.schema import MAX_RANK, SCALE_MAX, SCALE_MIN, Dtype, Region
from edgekit.graph import Graph, Node
from edgekit.program import Op, Program, Quant, Tensor
from edgekit.quantize import scales
from edgekit.quantize.groups import Groups
from edgekit.quantize.weights import QuantizedWeights

Lower = Callable[["Lowering", Node], None]
LOWERINGS: dict[str, Lower] = {}
"""Graph operator -> its lowering."""

_MAX_WALKS = 200
_MARGIN = 1 + 2.0**-16
"""Scales are raised a little further than needed, so that their rounding cannot fall short."""


def lowers(*ops: str) -> Callable[[Lower], Lower]:
    """Registers the lowering of graph operators."""

    def register(function: Lower) -> Lower:
        for op in ops:
            LOWERINGS[op] = function
        return function

    return register


@dataclass(frozen=True)
class Options:
    """How a graph is quantized.

    Attributes:
        io: "float" for float32 arrays outside, "int8" for the quantized tensors themselves.
        io_layout: "onnx", or "nhwc" for images as cameras give them.
        preprocessing: recorded as a table for raw 8-bit inputs where given.
        raw_dtypes: input name -> element type of its raw data; uint8 where not said.
        bias_correction: compensate the mean error of a layer's quantized weights and inputs.
        output_rounding: round weights so that a layer's outputs change least. Both need calibration data.
    """

    io: Literal["float", "int8"] = "float"
    io_layout: Literal["onnx", "nhwc"] = "onnx"
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    raw_dtypes: Mapping[str, Dtype] = field(default_factory=dict)
    bias_correction: bool = True
    output_rounding: bool = True


class Lowering:
    """The state of one quantization.

    Attributes:
        program: under construction.
        quants: value name -> its quantization.
        patches: output value of a layer with weights -> a sample of what it reads.
        layers: what was computed last for a layer: output value -> the quantizations of its input and output, and
            the weights that followed from them.
        done: ids of the nodes that ports have taken over.
        outputs: output name -> the value it reads and the order of its dimensions outside.
    """

    def __init__(
        self,
        graph: Graph,
        ranges: Mapping[str, tuple[float, float]],
        patches: Mapping[str, np.ndarray],
        options: Options,
    ) -> None:
        self.graph, self.options, self.patches = graph, options, patches
        self.groups = Groups(graph)
        self.quants = _choose_quants(graph, self.groups, ranges)
        self.layers: dict[str, tuple[tuple[Quant, Quant], QuantizedWeights]] = {}
        self.warnings: list[str] = []
        self._reserved = {p.name for p in (*graph.inputs, *graph.outputs)}
        self._start()

    def _start(self) -> None:
        self.program = Program(self.graph.name)
        self.done: set[int] = set()
        self.outputs: dict[str, tuple[str, tuple[int, ...]]] = {}
        self._tensors: dict[str, str] = {}
        self._names = set(self._reserved)
        self._raised = False

    def run(self) -> Program:
        """The finished program.

        Raises:
            ModelError: something cannot be quantized.
        """
        from edgekit.quantize import ports
        from edgekit.quantize.lowerings.accumulate import quantize_layers

        for _ in range(_MAX_WALKS):
            self._start()
            quantize_layers(self)
            ports.lower_inputs(self)
            ports.plan_outputs(self)
            for node in self.graph.nodes:
                if id(node) not in self.done:
                    self._lower(node)
            ports.lower_outputs(self)
            if not self._raised:
                return self.program
        raise ModelError("no consistent scales exist for this model: its ranges differ by too much")

    def _lower(self, node: Node) -> None:
        lower = LOWERINGS.get(node.op)
        if lower is None:
            raise ModelError(f"node '{node.name}': operator {node.op} cannot be quantized")
        lower(self, node)

    # ---- Scales ----

    def quant(self, value: str) -> Quant:
        """The quantization of an activation."""
        return self.quants[value]

    def raise_scale(self, value: str, factor: float) -> None:
        """Asks for a scale of `value` and its group at least `factor` > 1 times as large."""
        for member in self.groups.members(value):
            quant = scales.raised(self.quants[member], factor * _MARGIN)
            if quant == self.quants[member]:
                raise ModelError(f"tensor '{value}': its values are too large for 8-bit quantization")
            self.quants[member] = quant
        self._raised = True

    def check_multipliers(
        self, node: Node, multipliers: np.ndarray | float, reach: np.ndarray | float
    ) -> None:
        """Asks for larger scales where a result or a multiplier would leave its range.

        Args:
            multipliers: what accumulators (or differences to the zero point) are multiplied with.
            reach: the largest magnitude of each of them.
        """
        multipliers = np.abs(np.asarray(multipliers, np.float64))
        worst = float(np.max(multipliers * np.maximum(reach, 1.0), initial=0.0))
        if worst >= scales.REAL_MAX or multipliers.max(initial=0.0) > SCALE_MAX:
            self.raise_scale(node.outputs[0], max(worst / scales.REAL_MAX, multipliers.max() / SCALE_MAX))
        smallest = float(multipliers.min(initial=1.0))
        if smallest < SCALE_MIN:
            for name in dict.fromkeys(node.inputs):
                if name in self.quants:
                    self.raise_scale(name, SCALE_MIN / max(smallest, SCALE_MIN**4))

    def clamp(self, node: Node, quant: Quant) -> tuple[int, int]:
        """lo, hi of a node's output."""
        clip = node.attrs.get("clip")
        return scales.clamp_bounds(clip, quant) if clip is not None else (scales.Q_MIN, scales.Q_MAX)

    # ---- Tensors and operators ----

    def emit(self, op: Op) -> None:
        """Appends an operator."""
        self.program.ops.append(op)

    def operand(self, value: str) -> str:
        """The tensor that holds `value`; a constant becomes a read-only one with its own scale."""
        data = self.graph.constant(value)
        if data is None:
            return self._tensors[value]
        quant = scales.quant_from_range(*_extremes(data))
        return self.constant(value, scales.quantize(data, quant), quant)

    def operand_quant(self, value: str) -> Quant:
        """The quantization that `operand` gives `value`."""
        data = self.graph.constant(value)
        return self.quant(value) if data is None else scales.quant_from_range(*_extremes(data))

    def result(self, node: Node) -> str:
        """A new tensor for the node's output."""
        return self.define(node.outputs[0])

    def define(self, value: str) -> str:
        """A new tensor for an activation; a port may have prepared it."""
        if value not in self._tensors:
            v = self.graph.values[value]
            _check_rank(value, v.shape)
            tensor = Tensor(self.fresh(value), tuple(v.shape), Dtype.I8, self.quant(value))
            tensor.source, tensor.source_perm = v.source, v.source_perm
            self._tensors[value] = self.program.add(tensor).name
        return self._tensors[value]

    def define_as(self, value: str, tensor: Tensor) -> None:
        """Makes `tensor` the one that holds `value`."""
        self._tensors[value] = self.program.add(tensor).name

    def temporary(self, stem: str, shape: tuple[int, ...], quant: Quant) -> str:
        """A tensor that no value of the graph stands for."""
        return self.program.add(Tensor(self.fresh(stem), tuple(shape), Dtype.I8, quant)).name

    def constant(self, stem: str, data: np.ndarray, quant: Quant | None = None) -> str:
        """A read-only int8 tensor."""
        _check_rank(stem, data.shape)
        name = self.fresh(stem)
        data = np.ascontiguousarray(data, np.int8).reshape(data.shape)
        self.program.add(Tensor(name, data.shape, Dtype.I8, quant, Region.READONLY, data))
        return name

    def fresh(self, stem: str) -> str:
        """A tensor name that is not in use; a port's name is kept for the port."""
        name, n = stem, 1
        if name in self._reserved:
            name = stem = f"{stem}_quantized"
        while name in self._names:
            name, n = f"{stem}_{n}", n + 1
        self._names.add(name)
        return name


def _choose_quants(
    graph: Graph, groups: Groups, ranges: Mapping[str, tuple[float, float]]
) -> dict[str, Quant]:
    """One quantization per group: the known one, or one for the union of its members' ranges."""
    padding = {
        n.outputs[0]: float(n.attrs["value"])
        for n in graph.nodes
        if n.op == "Pad" and np.isfinite(n.attrs["value"])
    }
    quants: dict[str, Quant] = {}
    for members in groups:
        anyone = next(iter(members))
        quant = groups.fixed_scale(anyone)
        if quant is None:
            known = [ranges[m] for m in members if m in ranges]
            if not known:
                raise ModelError(f"tensor '{sorted(members)[0]}': its range is unknown; calibrate with data")
            values = [padding[m] for m in members if m in padding]
            quant = scales.quant_from_range(
                min([lo for lo, _ in known] + values), max([hi for _, hi in known] + values)
            )
        quants.update(dict.fromkeys(members, quant))
    return quants


def _extremes(data: np.ndarray) -> tuple[float, float]:
    return (float(data.min()), float(data.max())) if data.size else (0.0, 0.0)


def _check_rank(name: str, shape: tuple[int, ...]) -> None:
    if len(shape) > MAX_RANK:
        raise ModelError(f"tensor '{name}': rank {len(shape)}; at most {MAX_RANK} dimensions are supported")
