# SPDX-License-Identifier: Apache-2.0
"""Turns a simplified ONNX model into a `Graph`, one handler per node."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

import edgekit.importer.handlers  # noqa: F401 - fills HANDLERS
from edgekit.errors import ModelError
from edgekit.format.schema import MAX_RANK
from edgekit.graph import Graph, Port
from edgekit.importer.check import opset_of
from edgekit.importer.context import Context, OnnxNode
from edgekit.importer.handlers.norm import give_layer_norm
from edgekit.importer.patterns import LayerNormPattern, layer_norms
from edgekit.importer.registry import HANDLERS, Unsupported, opset_range
from edgekit.importer.session import FloatModel
from edgekit.importer.simplify import tensor_shapes

CONTROL_FLOW = frozenset(("If", "Loop", "Scan", "SequenceMap"))

QUANTIZED = "give the float model: edgekit quantizes it itself"
RECURRENT = "recurrent layers are not supported; use convolutions over time"
FIXED_SHAPES = "export with fixed input shapes so that the exporter can decide it"
OUTSIDE = "do it outside of the model, on its float outputs"
REMEDIES: dict[str, str] = {
    "QuantizeLinear": QUANTIZED,
    "DequantizeLinear": QUANTIZED,
    "DynamicQuantizeLinear": QUANTIZED,
    "QLinearConv": QUANTIZED,
    "QLinearMatMul": QUANTIZED,
    "ConvInteger": QUANTIZED,
    "MatMulInteger": QUANTIZED,
    "LSTM": RECURRENT,
    "GRU": RECURRENT,
    "RNN": RECURRENT,
    "If": FIXED_SHAPES,
    "Loop": FIXED_SHAPES,
    "Scan": FIXED_SHAPES,
    "ArgMax": OUTSIDE,
    "ArgMin": OUTSIDE,
    "TopK": OUTSIDE,
    "NonMaxSuppression": OUTSIDE,
    "LogSoftmax": "use Softmax, or end the model at the logits",
    "ConvTranspose": "use Resize (nearest) and Conv",
    "InstanceNormalization": "use BatchNormalization or LayerNormalization",
    "GroupNormalization": "use BatchNormalization or LayerNormalization",
    "LRN": "use BatchNormalization",
}
DEFAULT_REMEDY = "express it with the operators of docs/OPERATORS.md"


def blocking_nodes(model: onnx.ModelProto) -> set[int]:
    """Indexes of nodes that must not be executed: control flow, sequences, other domains, unknown operators."""
    opset = opset_of(model)
    return {i for i, n in enumerate(model.graph.node) if _blocks(n, opset)}


def _blocks(node: onnx.NodeProto, opset: int) -> bool:
    if (
        node.domain
        or node.op_type in CONTROL_FLOW
        or any(a.graphs or a.HasField("g") for a in node.attribute)
    ):
        return True
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, "")
    except onnx.defs.SchemaError:
        return True
    formals = (*schema.inputs, *schema.outputs)
    return bool(schema.deprecated) or not all(any(t.startswith("tensor") for t in f.types) for f in formals)


def build(path: Path, model: FloatModel) -> Graph:
    """Makes the graph of `model`.

    Raises:
        ModelError: some nodes are unsupported; the message lists every one of them.
    """
    return _Builder(path, model).run()


class _Builder:
    def __init__(self, path: Path, float_model: FloatModel) -> None:
        self.path = path
        self.model = model = float_model.light
        self.opset = opset_of(model)
        graph = model.graph
        self.shapes = tensor_shapes(model)
        self.types = {
            v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.value_info, *graph.output)
        }
        self.constants: dict[str, np.ndarray] = {
            t.name: float_model.weights[t.name]
            if t.name in float_model.weights
            else onnx.numpy_helper.to_array(t)
            for t in graph.initializer
        }
        self.ctx = Context(path.stem, self.opset, self.shapes, self.constants)
        self.problems: list[str] = []

    def run(self) -> Graph:
        graph = self.ctx.graph
        for port in self.model.graph.input:
            rank = len(self.shapes[port.name])
            if rank > MAX_RANK:
                raise ModelError(
                    f"{self.path}: input '{port.name}' has {rank} dimensions; use at most {MAX_RANK}"
                )
            self.ctx.add_input(port.name)
            graph.inputs.append(Port(port.name, self.shapes[port.name], port.name))
        found = layer_norms(self.model.graph, self.ctx, self.shapes)
        inside = {i for pattern in found.values() for i in pattern.nodes}
        for i, proto in enumerate(self.model.graph.node):
            if i in found:
                self._normalize(proto, found[i])
            elif i not in inside:
                self._convert(proto)
        if self.problems:
            raise ModelError(self._message())
        for port in self.model.graph.output:
            graph.outputs.append(Port(port.name, self.shapes[port.name], self.ctx.take(port.name)))
        return graph

    def _convert(self, proto: onnx.NodeProto) -> None:
        node = OnnxNode.of(proto, self.opset)
        self.ctx.begin(node)
        outputs = [o for o in proto.output if o]
        try:
            if not self._reachable(proto, outputs):
                return
            self._check_types(node, outputs)
            HANDLERS[node.op].function(self.ctx, node)
        except Unsupported as problem:
            self._report(proto, problem)
        except (KeyError, IndexError, ValueError, TypeError, OverflowError):
            # What passed the schema but not the handler: attributes of a wrong type or length.
            self._report(
                proto, Unsupported("its attributes or inputs are malformed", "export the model again")
            )
        for output in outputs:
            if output in self.shapes and not self.ctx.placeholder(output):
                # What reads it cannot be judged; the reason it is missing has been reported.
                del self.shapes[output]

    def _normalize(self, last: onnx.NodeProto, pattern: LayerNormPattern) -> None:
        """Emits one LayerNorm for nodes that spell it; it carries the name of the last of them."""
        self.ctx.begin(OnnxNode.of(last, self.opset))
        try:
            give_layer_norm(
                self.ctx, last.output[0], pattern.x, pattern.normalized, pattern.gamma, pattern.beta, pattern.epsilon
            )
        except Unsupported as problem:
            self._report(last, problem)
            self.ctx.placeholder(last.output[0])

    def _reachable(self, proto: onnx.NodeProto, outputs: list[str]) -> bool:
        """Whether all that the handler needs is known; without a handler the node is reported."""
        if proto.domain:
            raise Unsupported(
                f"domain '{proto.domain}' is not supported", "export with standard ONNX operators only"
            )
        if proto.op_type not in HANDLERS:
            raise Unsupported("the operator is not supported", REMEDIES.get(proto.op_type, DEFAULT_REMEDY))
        first, last = opset_range(HANDLERS[proto.op_type])
        if not first <= self.opset <= last:
            raise Unsupported(
                f"the operator does not exist in opset {self.opset}", f"export with opset {first} to {last}"
            )
        missing = [
            t for t in (*proto.input, *outputs) if t and t not in self.shapes and t not in self.constants
        ]
        if not missing:
            return True
        if not self.problems:
            raise Unsupported(f"the shape of tensor '{missing[0]}' depends on data", FIXED_SHAPES)
        return False

    def _check_types(self, node: OnnxNode, outputs: list[str]) -> None:
        for tensor in (node.inputs[0] if node.inputs else "", *outputs):
            if tensor in self.constants or self.types.get(tensor) in (None, TensorProto.FLOAT):
                continue
            if node.op == "Cast":
                continue
            name = TensorProto.DataType.Name(self.types[tensor]).lower()
            raise Unsupported(f"tensor '{tensor}' is {name}", "keep the data path in float32")
        empty = [t for t in outputs if 0 in self.shapes[t]]
        if empty:
            raise Unsupported(f"tensor '{empty[0]}' is empty", "remove it from the model")

    def _report(self, proto: onnx.NodeProto, problem: Unsupported) -> None:
        self.problems.append(f"node '{proto.name}' ({proto.op_type}): {problem.reason}; {problem.remedy}")

    def _message(self) -> str:
        if len(self.problems) == 1:
            return f"{self.path}: {self.problems[0]}"
        lines = "\n".join(f"  {p}" for p in self.problems)
        return f"{self.path}: {len(self.problems)} nodes are not supported:\n{lines}"
