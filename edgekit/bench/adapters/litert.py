# SPDX-License-Identifier: Apache-2.0
"""LiteRT: the ONNX model is spelled in TensorFlow, channels last, and quantized by TensorFlow's converter.

`prepare` runs in an environment with TensorFlow, the rest in one with LiteRT.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np


def version() -> str:
    import ai_edge_litert.interpreter  # noqa: F401

    return metadata.version("ai-edge-litert")


# ---- ONNX to TensorFlow -----------------------------------------------------------------------------------


class Spelling:
    """Evaluates an ONNX graph with TensorFlow's functions.

    Tensors in `last` have their channels on the last axis, where ONNX has them on the second.
    """

    def __init__(self, model: Any) -> None:
        from onnx import numpy_helper

        self.graph = model.graph
        self.constants = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
        self.values: dict[str, Any] = {}
        self.last: set[str] = set()
        self.readers: dict[str, list[Any]] = {}
        for node in self.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def run(self, inputs: dict[str, Any]) -> Any:
        """The first output for inputs of which images have their channels last."""
        self.values = dict(inputs)
        self.last = {name for name, value in inputs.items() if len(value.shape) == 4}
        for node in self.graph.node:
            if node.output[0] in self.values:
                continue  # part of something larger
            handler = HANDLERS.get(node.op_type)
            if handler is None:
                raise ValueError(f"{node.name}: no spelling of {node.op_type} in TensorFlow is known here")
            handler(self, node)
        return self.values[self.graph.output[0].name]

    def put(self, name: str, value: Any, last: bool) -> None:
        self.values[name] = value
        if last:
            self.last.add(name)

    def operand(self, name: str, last: bool) -> Any:
        """A value or constant, its channels where the other operand has them."""
        if name not in self.constants:
            if (name in self.last) != last:
                raise ValueError(f"{name}: channels last meet channels first")
            return self.values[name]
        array = self.constants[name].astype(np.float32)
        return np.moveaxis(array, 1, -1) if last and array.ndim > 2 else array


def attributes(node: Any) -> dict[str, Any]:
    from onnx import helper

    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def padded(x: Any, pads: list[int]) -> Any:
    import tensorflow as tf

    top, left, bottom, right = pads
    return tf.pad(x, [[0, 0], [top, bottom], [left, right], [0, 0]]) if any(pads) else x


def same(x: Any, window: Sequence[int], strides: list[int], pads: list[int]) -> bool:
    """Whether TensorFlow's SAME pads as `pads` says."""
    for axis in range(2):
        size = int(x.shape[1 + axis])
        total = max(0, (-(-size // strides[axis]) - 1) * strides[axis] + window[axis] - size)
        if (pads[axis], pads[axis + 2]) != (total // 2, total - total // 2):
            return False
    return True


def conv(s: Spelling, node: Any) -> None:
    import tensorflow as tf

    given = attributes(node)
    weights, x = s.constants[node.input[1]], s.values[node.input[0]]
    groups, strides, pads = given.get("group", 1), given.get("strides", [1, 1]), given.get("pads", [0] * 4)
    padding = "SAME" if same(x, weights.shape[2:], strides, pads) else "VALID"
    x = x if padding == "SAME" else padded(x, pads)
    if groups == 1:
        y = tf.nn.conv2d(x, weights.transpose(2, 3, 1, 0), strides, padding)
    elif groups == weights.shape[0] and weights.shape[1] == 1:
        # TensorFlow has no depthwise convolution with unequal strides, and needs none here
        y = tf.nn.depthwise_conv2d(x, weights.transpose(2, 3, 0, 1), [1, *strides, 1], padding)
    else:
        raise ValueError(f"{node.name}: grouped convolution")
    if len(node.input) > 2:
        y = tf.nn.bias_add(y, s.constants[node.input[2]])
    s.put(node.output[0], y, True)


def pool(s: Spelling, node: Any) -> None:
    import tensorflow as tf

    given = attributes(node)
    x = s.values[node.input[0]]
    pads = given.get("pads", [0] * 4)
    producer = next((n for n in s.graph.node if node.input[0] in n.output), None)
    if any(pads) and (producer is None or producer.op_type != "Relu"):
        raise ValueError(f"{node.name}: zeros pad a maximum only where nothing is negative")
    y = tf.nn.max_pool2d(padded(x, pads), given["kernel_shape"], given.get("strides", [1, 1]), "VALID")
    s.put(node.output[0], y, True)


def unary(function: Callable[[Any], Any]) -> Callable[[Spelling, Any], None]:
    def handler(s: Spelling, node: Any) -> None:
        s.put(node.output[0], function(s.values[node.input[0]]), node.input[0] in s.last)

    return handler


def binary(function: Callable[[Any, Any], Any]) -> Callable[[Spelling, Any], None]:
    def handler(s: Spelling, node: Any) -> None:
        last = any(name in s.last for name in node.input)
        s.put(node.output[0], function(*(s.operand(name, last) for name in node.input)), last)

    return handler


def clip(s: Spelling, node: Any) -> None:
    import tensorflow as tf

    low, high = (float(s.constants[name]) for name in node.input[1:])
    x = s.values[node.input[0]]
    y = tf.nn.relu6(x) if (low, high) == (0, 6) else tf.clip_by_value(x, low, high)
    s.put(node.output[0], y, node.input[0] in s.last)


def concat(s: Spelling, node: Any) -> None:
    import tensorflow as tf

    last = any(name in s.last for name in node.input)
    axis = attributes(node)["axis"]
    operands = [s.operand(name, last) for name in node.input]
    axis = (len(operands[0].shape) - 1 if axis == 1 else axis - 1) if last else axis
    s.put(node.output[0], tf.concat(operands, axis), last)


def mean(s: Spelling, node: Any) -> None:
    import tensorflow as tf

    s.put(node.output[0], tf.reduce_mean(s.values[node.input[0]], [1, 2], keepdims=True), True)


def flatten(s: Spelling, node: Any) -> None:
    import tensorflow as tf

    x = s.values[node.input[0]]
    if node.input[0] in s.last and any(n != 1 for n in x.shape[1:-1]):
        raise ValueError(f"{node.name}: flattens an image, whose order TensorFlow would change")
    s.put(node.output[0], tf.reshape(x, (1, -1)), False)


def gemm(s: Spelling, node: Any) -> None:
    import tensorflow as tf

    given = attributes(node)
    if given.get("transA", 0) or given.get("alpha", 1.0) != 1 or given.get("beta", 1.0) != 1:
        raise ValueError(f"{node.name}: Gemm with scales")
    weights = s.constants[node.input[1]]
    y = tf.matmul(s.values[node.input[0]], weights.T if given.get("transB", 0) else weights)
    s.put(node.output[0], y if len(node.input) < 3 else tf.nn.bias_add(y, s.constants[node.input[2]]), False)


def softmax(s: Spelling, node: Any) -> None:
    import tensorflow as tf

    x = s.values[node.input[0]]
    if attributes(node).get("axis", -1) not in (-1, len(x.shape) - 1) or node.input[0] in s.last:
        raise ValueError(f"{node.name}: Softmax along an inner axis")
    s.put(node.output[0], tf.nn.softmax(x), False)


def layer_norm(s: Spelling, node: Any) -> None:
    import tensorflow as tf

    x, scale, bias = s.values[node.input[0]], *(s.constants[name] for name in node.input[1:])
    centered = x - tf.reduce_mean(x, -1, keepdims=True)
    variance = tf.reduce_mean(tf.square(centered), -1, keepdims=True)
    s.put(node.output[0], centered * tf.math.rsqrt(variance + attributes(node)["epsilon"]) * scale + bias, False)


def divide(s: Spelling, node: Any) -> None:
    """Also the whole of a GELU, x / sqrt(2), erf, + 1, * x, * 0.5, which LiteRT has as one operator."""
    import tensorflow as tf

    chain = [node]
    while len(readers := s.readers.get(chain[-1].output[0], [])) == 1 and len(chain) < 5:
        chain.append(readers[0])
    if [n.op_type for n in chain] == ["Div", "Erf", "Add", "Mul", "Mul"] and node.input[0] in chain[3].input:
        s.put(chain[-1].output[0], tf.nn.gelu(s.values[node.input[0]], approximate=False), False)
        for inner in chain[:-1]:
            s.values[inner.output[0]] = None
        return
    binary(lambda a, b: a / b)(s, node)


def reshape(s: Spelling, node: Any) -> None:
    import tensorflow as tf

    x, shape = s.values[node.input[0]], [int(n) for n in s.constants[node.input[1]]]
    last = node.input[0] in s.last
    if last:
        if len(shape) != 3 or shape[1] != x.shape[-1]:
            raise ValueError(f"{node.name}: reshapes an image, whose order TensorFlow would change")
        shape = [shape[0], shape[2], shape[1]]
    s.put(node.output[0], tf.reshape(x, shape), last)


def transpose(s: Spelling, node: Any) -> None:
    import tensorflow as tf

    x, perm = s.values[node.input[0]], list(attributes(node)["perm"])
    if node.input[0] not in s.last:
        s.put(node.output[0], tf.transpose(x, perm), False)
    elif perm in ([0, 2, 1], [0, 2, 3, 1]):
        s.put(node.output[0], x, False)  # that is the order it has
    else:
        raise ValueError(f"{node.name}: transposes an image")


def matmul(s: Spelling, node: Any) -> None:
    import tensorflow as tf

    s.put(node.output[0], tf.matmul(*(s.operand(name, False) for name in node.input)), False)


def split(s: Spelling, node: Any) -> None:
    import tensorflow as tf

    if node.input[0] in s.last:
        raise ValueError(f"{node.name}: splits an image")
    sizes = s.constants[node.input[1]].tolist() if len(node.input) > 1 else len(node.output)
    parts = tf.split(s.values[node.input[0]], sizes, attributes(node).get("axis", 0))
    for name, part in zip(node.output, parts, strict=True):
        s.put(name, part, False)


def gather(s: Spelling, node: Any) -> None:
    import tensorflow as tf

    index, axis = s.constants[node.input[1]], attributes(node).get("axis", 0)
    if index.ndim or node.input[0] in s.last:
        raise ValueError(f"{node.name}: gathers more than one index")
    x = s.values[node.input[0]]
    begin = [int(index) if i == axis else 0 for i in range(len(x.shape))]
    size = [1 if i == axis else n for i, n in enumerate(x.shape)]
    s.put(node.output[0], tf.squeeze(tf.slice(x, begin, size), axis), False)


def _tf(name: str) -> Callable[[Any], Any]:
    def call(x: Any) -> Any:
        import tensorflow as tf

        module = tf
        for part in name.split("."):
            module = getattr(module, part)
        return module(x)

    return call


HANDLERS: dict[str, Callable[[Spelling, Any], None]] = {
    "Conv": conv,
    "MaxPool": pool,
    "Relu": unary(_tf("nn.relu")),
    "Sigmoid": unary(_tf("sigmoid")),
    "Erf": unary(_tf("math.erf")),
    "Clip": clip,
    "Add": binary(lambda a, b: a + b),
    "Mul": binary(lambda a, b: a * b),
    "Div": divide,
    "Concat": concat,
    "GlobalAveragePool": mean,
    "Flatten": flatten,
    "Gemm": gemm,
    "MatMul": matmul,
    "Softmax": softmax,
    "LayerNormalization": layer_norm,
    "Reshape": reshape,
    "Transpose": transpose,
    "Split": split,
    "Gather": gather,
}


def prepare(model: Path, samples: dict[str, np.ndarray], folder: Path, recipe: str) -> Path:
    """`recipe`: int8, with int8 ports, or dynamic: int8 weights, activations quantized as they come."""
    import onnx
    import tensorflow as tf

    spelling = Spelling(onnx.load(model))
    data = {name: np.moveaxis(array, 2, -1) if array.ndim == 5 else array for name, array in samples.items()}
    specs = [tf.TensorSpec(array.shape[1:], tf.float32, name) for name, array in data.items()]

    def network(*inputs: Any) -> Any:
        return spelling.run(dict(zip(data, inputs, strict=True)))

    function = tf.function(network, input_signature=specs).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if recipe == "int8":
        converter.representative_dataset = lambda: ([*row] for row in zip(*data.values(), strict=True))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    path = folder / f"{recipe}.tflite"
    path.write_bytes(converter.convert())
    return path


class Session:
    def __init__(self, path: Path, threads: int, inputs: dict[str, np.ndarray]) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
        self._interpreter.allocate_tensors()
        ports = self._interpreter.get_input_details()
        for port, array in zip(ports, inputs.values(), strict=True):
            if array.ndim == 4 and tuple(port["shape"]) != array.shape:
                array = array.transpose(0, 2, 3, 1)
            if port["dtype"] == np.int8:
                scale, zero_point = port["quantization"]
                array = np.clip(np.rint(array / scale) + zero_point, -128, 127)
            self._interpreter.set_tensor(port["index"], np.ascontiguousarray(array, port["dtype"]))
        self.run = self._interpreter.invoke

    def output(self) -> np.ndarray:
        port = self._interpreter.get_output_details()[0]
        levels: np.ndarray = self._interpreter.get_tensor(port["index"])
        if port["dtype"] != np.int8:
            return levels
        scale, zero_point = port["quantization"]
        return np.float32(scale) * (levels.astype(np.float32) - np.float32(zero_point))


def start(path: Path, threads: int, inputs: dict[str, np.ndarray]) -> Any:
    return Session(path, threads, inputs)
