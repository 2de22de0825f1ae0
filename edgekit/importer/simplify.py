# SPDX-License-Identifier: Apache-2.0
"""Constant folding, shape inference and dead code removal, from ONNX to ONNX.

`fold` does the folding; onnxslim then removes what is dead, doubled or does nothing. Its fusions
are left out: they would hide BatchNormalization statistics and tensor names that ranges are
reported under, and `edgekit.passes` does the same on the graph.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from edgekit.errors import ModelError
from edgekit.importer.fold import SHAPE_DATA_ELEMENTS, fold, one_line, static_shape
from edgekit.importer.session import FloatModel, copy_without, create_session

logger = logging.getLogger(__name__)

SLIM_SKIPS = ["constant_folding", "graph_fusion", "weight_tying"]

_LEFT_ALONE = frozenset(
    (
        "AveragePool", "BatchNormalization", "Clip", "Conv", "Elu", "Erf", "Flatten", "Gemm", "GlobalAveragePool",
        "HardSigmoid", "HardSwish", "LayerNormalization", "LeakyRelu", "MatMul", "MaxPool", "PRelu", "Relu", "Sigmoid",
        "Softmax", "Tanh",
    )
)  # fmt: skip
"""Operators of which onnxslim removes nothing but dead and double nodes."""
_LEFT_ALONE_BETWEEN_ACTIVATIONS = frozenset(("Add", "Mul", "Sub", "Div"))


def simplify(path: Path, model: onnx.ModelProto, blocked: Collection[int]) -> onnx.ModelProto:
    """Simplifies a checked model whose inputs have static shapes.

    Args:
        blocked: indexes of nodes that must not be executed or are unknown. Where there are any, the
            result serves for a complete list of what is unsupported only.

    Raises:
        ModelError: shapes contradict each other or exceed the limits.
    """
    model = fold(path, model, blocked)
    return model if blocked else _slim(path, model)


def tensor_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """The static shapes that inference found; tensors without one are left out."""
    graph = model.graph
    found = {i.name: static_shape(i.type) for i in (*graph.input, *graph.value_info, *graph.output)}
    return {name: shape for name, shape in found.items() if shape is not None}


def _slim(path: Path, model: onnx.ModelProto) -> onnx.ModelProto:
    """onnxslim's clean-up, or the model as it is where that fails or changes what the model computes."""
    if is_clean(model):
        return model
    try:
        import onnxslim  # a third of a second, for the symbolic algebra behind its shape inference

        light = _without_weights(model)
        before = _unordered_nodes(light)
        slimmed = onnxslim.slim(light, skip_optimizations=SLIM_SKIPS)
        if _unordered_nodes(slimmed) == before:
            return model
        slimmed = fold(path, _with_weights(slimmed, model), ())
    except Exception as error:
        logger.debug("onnxslim failed on %s: %s", path, error)
        return model
    if not _same_ports(model, slimmed) or not _same_results(model, slimmed):
        logger.debug("onnxslim changed what %s computes; its result is not used", path)
        return model
    return slimmed


def is_clean(model: onnx.ModelProto) -> bool:
    """Whether there is nothing that onnxslim could remove, as far as can be told in passing."""
    constants = {tensor.name for tensor in model.graph.initializer}
    small = {t.name for t in model.graph.initializer if math.prod(t.dims) <= SHAPE_DATA_ELEMENTS}
    needed = {port.name for port in model.graph.output}
    seen: set[tuple[str, tuple[str, ...]]] = set()
    for node in reversed(model.graph.node):  # in topological order
        alone = node.op_type in _LEFT_ALONE or (
            node.op_type in _LEFT_ALONE_BETWEEN_ACTIVATIONS and constants.isdisjoint(node.input)
        )
        # Small constants count as equal: onnxslim compares their values.
        what = node.op_type, tuple("" if name in small else name for name in node.input)
        if not alone or what in seen or needed.isdisjoint(node.output):
            return False
        seen.add(what)
        needed.update(node.input)
    return True


def _unordered_nodes(model: onnx.ModelProto) -> list[bytes]:
    return sorted(node.SerializeToString(deterministic=True) for node in model.graph.node)


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with large constants as inputs: what they hold, no clean-up looks at, and copies of it add up."""
    light = copy_without(model, ("graph",))
    light.graph.MergeFrom(copy_without(model.graph, ("initializer",)))
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= SHAPE_DATA_ELEMENTS:
            light.graph.initializer.append(tensor)
        else:
            light.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return light


def _with_weights(light: onnx.ModelProto, model: onnx.ModelProto) -> onnx.ModelProto:
    """The inverse: inputs that are constants of `model` become those again."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    ports = [p for p in light.graph.input if p.name not in constants]
    present = {tensor.name for tensor in light.graph.initializer}
    read = {t for node in light.graph.node for t in node.input}
    del light.graph.input[:]
    light.graph.input.extend(ports)
    light.graph.initializer.extend(t for name, t in constants.items() if name in read and name not in present)
    return light


def _same_ports(a: onnx.ModelProto, b: onnx.ModelProto) -> bool:
    def ports(model: onnx.ModelProto) -> list[tuple[str, int, tuple[int, ...] | None]]:
        both = (*model.graph.input, *model.graph.output)
        return [(p.name, p.type.tensor_type.elem_type, static_shape(p.type)) for p in both]

    return ports(a) == ports(b)


def _same_results(a: onnx.ModelProto, b: onnx.ModelProto) -> bool:
    """Whether both compute the same from one random input, up to the order of float operations."""
    feeds = _random_feeds(a)
    try:
        expected = create_session(a).run(None, feeds)
    except Exception as error:
        # `check_executes` reports it, once it is known that no node is at fault.
        logger.debug("ONNX Runtime cannot execute the model: %s", error)
        return True
    got = create_session(b).run(None, feeds)
    return all(_close(x, y) for x, y in zip(expected, got, strict=True))


def _random_feeds(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        p.name: rng.standard_normal(static_shape(p.type), dtype=np.float32).reshape(
            static_shape(p.type) or ()
        )
        for p in model.graph.input
    }


def check_executes(path: Path, model: FloatModel) -> None:
    """Runs the model once with every tensor shown: ONNX Runtime takes it and agrees on all shapes.

    Raises:
        ModelError: it does not, so that neither calibration nor a comparison would be possible.
    """
    names = [o for n in model.light.graph.node for o in n.output if o]
    try:
        session = create_session(model, names)
        results = session.run(None, _random_feeds(model.light))
    except Exception as error:
        raise ModelError(f"{path}: ONNX Runtime cannot execute the model: {one_line(error)}") from None
    shapes = tensor_shapes(model.light)
    for output, result in zip(session.get_outputs(), results, strict=True):
        if result.shape != shapes[output.name]:
            raise ModelError(
                f"{path}: tensor '{output.name}' has shape {list(result.shape)} in ONNX Runtime and "
                f"{list(shapes[output.name])} by ONNX's rules; export the model with a newer opset"
            )


def _close(x: np.ndarray, y: np.ndarray) -> bool:
    if x.dtype != np.float32:
        return bool(np.array_equal(x, y))
    largest = float(np.abs(x[np.isfinite(x)]).max(initial=1.0))
    return x.shape == y.shape and bool(np.allclose(x, y, rtol=1e-4, atol=1e-5 * largest, equal_nan=True))
