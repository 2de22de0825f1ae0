# SPDX-License-Identifier: Apache-2.0
"""Graphs built by hand, and both of their executions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgekit.calibrate import Calibration
from edgekit.graph import Graph, Node, Port, Value
from edgekit.passes.evaluate import evaluate
from edgekit.program import Program
from edgekit.quantize import Options, quantize
from edgekit.reference import run

STEP = 2.0**-4
"""Scale of the inputs below: a power of two, so that their quantization is exact."""
ZERO = -28
INPUT_RANGE = ((-128 - ZERO) * STEP, (127 - ZERO) * STEP)


@dataclass
class Net:
    """Builds a graph.

    net = Net()
    x = net.input((1, 4, 4, 3))
    y = net.node("MaxPool", [x], (1, 2, 2, 3), kernel=(2, 2), strides=(2, 2), ...)
    net.output(y)
    """

    graph: Graph = field(default_factory=lambda: Graph("net"))
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)

    def input(self, shape: tuple[int, ...], name: str = "x") -> str:
        """A model input with the range `INPUT_RANGE`."""
        self.graph.values[name] = Value(name, shape, source=name)
        self.graph.inputs.append(Port(name, shape, name))
        self.ranges[name] = INPUT_RANGE
        return name

    def constant(self, data: Any) -> str:
        """A constant."""
        name = self.graph.fresh("c")
        array = np.asarray(data, np.float32)
        self.graph.values[name] = Value(name, array.shape, array)
        return name

    def node(self, op: str, inputs: list[str], shape: tuple[int, ...], **attrs: Any) -> str:
        """An operator; the name of its output."""
        name = self.graph.fresh(op.lower())
        self.graph.values[name] = Value(name, tuple(shape))
        self.graph.nodes.append(Node(op, f"node_{name}", inputs, [name], attrs))
        return name

    def output(self, value: str, name: str = "out") -> None:
        """A model output."""
        self.graph.outputs.append(Port(name, self.graph.values[value].shape, value))

    def calibrate(self, inputs: dict[str, np.ndarray]) -> Calibration:
        """Full ranges of one float execution."""
        values = evaluate(self.graph, inputs, np.float64)
        ranges = {
            v.name: (float(values[v.name].min()), float(values[v.name].max()))
            for v in self.graph.activations()
        }
        return Calibration({**ranges, **self.ranges})

    def quantize(self, inputs: dict[str, np.ndarray], **options: Any) -> Program:
        """The program with full ranges."""
        return quantize(self.graph, self.calibrate(inputs), Options(**options))


def exact_input(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """float32 values that quantize without error, the ends of the range among them."""
    q = rng.integers(-128, 128, shape)
    q.flat[0], q.flat[-1] = -128, 127
    return ((q - ZERO) * STEP).astype(np.float32)


def exact_weights(rng: np.random.Generator, shape: tuple[int, ...], axis: int = 0) -> np.ndarray:
    """Weights that quantize without error: multiples of a power of two, 127 of them in every channel."""
    q = np.moveaxis(rng.integers(-127, 128, shape), axis, 0)
    q.reshape(len(q), -1)[:, 0] = 127
    scale = 2.0 ** -rng.integers(3, 7, len(q))
    w = q * scale.reshape(-1, *[1] * (q.ndim - 1))
    return np.moveaxis(w, 0, axis).astype(np.float32)


def exact_bias(rng: np.random.Generator, size: int) -> np.ndarray:
    """Multiples of every product of scales that occurs."""
    return (rng.integers(-500, 500, size) * STEP).astype(np.float32)


def steps_apart(net: Net, inputs: dict[str, np.ndarray], **options: Any) -> float:
    """Largest distance between the integer program and the float graph, in steps of the output."""
    program = net.quantize(inputs, **options)
    outputs = run(program, inputs)
    assert isinstance(outputs, dict)
    values = evaluate(net.graph, inputs, np.float64)
    worst = 0.0
    for port in net.graph.outputs:
        tensor = program.tensors[next(o for o in program.ops if o.outputs == [port.name]).inputs[0]]
        assert tensor.quant is not None
        scale, zero = float(tensor.quant.scale), tensor.quant.zero_point
        expected = np.clip(values[port.value], (-128 - zero) * scale, (127 - zero) * scale)
        worst = max(worst, float(np.abs(outputs[port.name] - expected).max()) / scale)
    return worst
