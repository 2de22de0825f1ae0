# SPDX-License-Identifier: Apache-2.0
"""ExecuTorch: the ONNX model is spelled in PyTorch, quantized by PT2E for XNNPACK and lowered to it."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

PYTHON_ONLY = ("torch", "torchao", "torchgen", "functorch", "pandas", "scipy", "sklearn", "google")


def version() -> str:
    import executorch.extension.pybindings.portable_lib  # noqa: F401

    return metadata.version("executorch")


# ---- ONNX to PyTorch ----------------------------------------------------------------------------------------


def spelled(model: Any) -> Any:
    """A module that computes the first output of an ONNX model.

    Raises:
        ValueError: an operator has no spelling here.
    """
    import torch
    from onnx import numpy_helper

    graph = model.graph
    constants = {w.name: numpy_helper.to_array(w) for w in graph.initializer}
    if unknown := sorted({node.op_type for node in graph.node} - set(HANDLERS)):
        raise ValueError(f"no spelling of {', '.join(unknown)} in PyTorch is known here")

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, array in constants.items():
                if is_weight(array):
                    self.register_parameter(name, torch.nn.Parameter(torch.tensor(array), requires_grad=False))

        def value(self, values: dict[str, Any], name: str) -> Any:
            if name in values:
                return values[name]
            array = constants[name]
            return getattr(self, name) if is_weight(array) else array.tolist()

        def forward(self, *inputs: Any) -> Any:
            values = dict(zip((port.name for port in graph.input), inputs, strict=True))
            for node in graph.node:
                operands = [self.value(values, name) for name in node.input]
                results = HANDLERS[node.op_type](node, operands)
                values.update(zip(node.output, results if isinstance(results, list) else [results], strict=True))
            return values[graph.output[0].name]

    return Network().eval()


def is_weight(array: np.ndarray) -> bool:
    """Not a number or a list of sizes, which PyTorch takes as arguments."""
    return array.dtype == np.float32 and array.ndim > 0


def attribute(node: Any, name: str, default: Any) -> Any:
    from onnx import helper

    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def _functional() -> Any:
    import torch.nn.functional

    return torch.nn.functional


def conv(node: Any, operands: list[Any]) -> Any:
    x, (top, left, bottom, right) = operands[0], attribute(node, "pads", [0, 0, 0, 0])
    padding = (top, left)
    if (top, left) != (bottom, right):
        x, padding = _functional().pad(x, (left, right, top, bottom)), (0, 0)
    bias = operands[2] if len(operands) > 2 else None
    strides, groups = attribute(node, "strides", [1, 1]), attribute(node, "group", 1)
    return _functional().conv2d(x, operands[1], bias, strides, padding, 1, groups)


def pool(node: Any, operands: list[Any]) -> Any:
    top, left, bottom, right = attribute(node, "pads", [0, 0, 0, 0])
    if (top, left) != (bottom, right):
        raise ValueError(f"{node.name}: uneven padding of a maximum")
    return _functional().max_pool2d(
        operands[0], attribute(node, "kernel_shape", None), attribute(node, "strides", [1, 1]), (top, left)
    )


def clip(node: Any, operands: list[Any]) -> Any:
    low, high = operands[1:]
    return _functional().hardtanh(operands[0], low, high)


def gemm(node: Any, operands: list[Any]) -> Any:
    if not attribute(node, "transB", 0) or attribute(node, "transA", 0):
        raise ValueError(f"{node.name}: Gemm that is no linear layer")
    return _functional().linear(*operands)


def layer_norm(node: Any, operands: list[Any]) -> Any:
    x, scale, bias = operands
    return _functional().layer_norm(x, scale.shape, scale, bias, attribute(node, "epsilon", 1e-5))


def softmax(node: Any, operands: list[Any]) -> Any:
    return _functional().softmax(operands[0], attribute(node, "axis", -1))


def concat(node: Any, operands: list[Any]) -> Any:
    import torch

    return torch.cat(operands, attribute(node, "axis", 0))


def split(node: Any, operands: list[Any]) -> Any:
    x, axis = operands[0], attribute(node, "axis", 0)
    sizes = operands[1] if len(operands) > 1 else x.shape[axis] // len(node.output)
    return list(x.split(sizes, axis))


def gather(node: Any, operands: list[Any]) -> Any:
    return operands[0].select(attribute(node, "axis", 0), operands[1])


HANDLERS: dict[str, Callable[[Any, list[Any]], Any]] = {
    "Conv": conv,
    "MaxPool": pool,
    "Relu": lambda node, operands: _functional().relu(operands[0]),
    "Sigmoid": lambda node, operands: operands[0].sigmoid(),
    "Erf": lambda node, operands: operands[0].erf(),
    "Clip": clip,
    "Add": lambda node, operands: operands[0] + operands[1],
    "Mul": lambda node, operands: operands[0] * operands[1],
    "Div": lambda node, operands: operands[0] / operands[1],
    "Concat": concat,
    "GlobalAveragePool": lambda node, operands: operands[0].mean((-1, -2), keepdim=True),
    "Flatten": lambda node, operands: operands[0].flatten(1),
    "Gemm": gemm,
    "MatMul": lambda node, operands: operands[0] @ operands[1],
    "Softmax": softmax,
    "LayerNormalization": layer_norm,
    "Reshape": lambda node, operands: operands[0].reshape(operands[1]),
    "Transpose": lambda node, operands: operands[0].permute(attribute(node, "perm", None)),
    "Split": split,
    "Gather": gather,
}


def prepare(model: Path, samples: dict[str, np.ndarray], folder: Path, recipe: str) -> Path:
    import onnx
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from executorch.exir import to_edge_transform_and_lower
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    rows = [tuple(torch.tensor(array) for array in row) for row in zip(*samples.values(), strict=True)]
    with torch.no_grad():
        floating = torch.export.export(spelled(onnx.load(model)), rows[0]).module()
        quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
        observed = prepare_pt2e(floating, quantizer)
        for row in rows:
            observed(*row)
        exported = torch.export.export(convert_pt2e(observed), rows[0])
    lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
    path = folder / f"{recipe}.pte"
    path.write_bytes(lowered.to_executorch().buffer)
    return path


class Session:
    def __init__(self, path: Path, threads: int, inputs: dict[str, np.ndarray]) -> None:
        import torch
        from executorch.extension.pybindings import portable_lib

        portable_lib._unsafe_reset_threadpool(threads)
        self._module = portable_lib._load_for_executorch(str(path))
        self._inputs = tuple(torch.tensor(array) for array in inputs.values())
        self._outputs: Any = None

    def run(self) -> None:
        self._outputs = self._module.forward(self._inputs, clone_outputs=False)

    def output(self) -> np.ndarray:
        result: np.ndarray = self._outputs[0].numpy()
        return result.copy()


def start(path: Path, threads: int, inputs: dict[str, np.ndarray]) -> Any:
    return Session(path, threads, inputs)
