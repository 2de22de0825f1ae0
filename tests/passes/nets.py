# SPDX-License-Identifier: Apache-2.0
"""ONNX networks written by hand or by chance, as exporters write them: NCHW, batch norms unfolded."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


@dataclass
class Net:
    """An ONNX graph under construction; each method adds nodes and returns the name of its result."""

    rng: np.random.Generator
    opset: int = 17
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def input(self, *shape: int) -> str:
        name = f"input{len(self.inputs)}"
        self.inputs.append(name)
        self.shapes[name] = shape
        return name

    def constant(self, data: Any, dtype: type = np.float32) -> str:
        name = f"c{len(self.constants)}"
        data = np.asarray(data, dtype)
        self.constants.append(numpy_helper.from_array(data, name))
        self.shapes[name] = data.shape
        return name

    def random(self, *shape: int, scale: float = 1.0, offset: float = 0.0) -> str:
        return self.constant(self.rng.standard_normal(shape) * scale + offset)

    def op(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """A node; its outputs' shapes come from ONNX's shape inference."""
        names = [f"t{len(self.nodes)}_{i}" for i in range(outputs)]
        node = helper.make_node(op, list(inputs), names, name=f"{op}{len(self.nodes)}", **attributes)
        self.nodes.append(node)
        constants = {c.name: c for c in self.constants}
        fed = [i for i in dict.fromkeys(inputs) if i and i not in constants]
        infos = [helper.make_tensor_value_info(i, TensorProto.FLOAT, self.shapes[i]) for i in fed]
        results = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in names]
        graph = helper.make_graph([node], "one", infos, results, [constants[i] for i in set(inputs) & set(constants)])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        for info in inferred.graph.output:
            self.shapes[info.name] = tuple(d.dim_value for d in info.type.tensor_type.shape.dim)
        return names[0] if outputs == 1 else names

    def model(self, *outputs: str) -> onnx.ModelProto:
        infos = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, self.shapes[n]) for n in names] for names in (self.inputs, outputs)]
        graph = helper.make_graph(self.nodes, "net", infos[0], infos[1], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model

    # Layers.

    def channels(self, x: str) -> int:
        return self.shapes[x][1]

    def conv(self, x: str, out: int, kernel: int = 3, stride: int = 1, groups: int = 1, pads: Sequence[int] | None = None, bias: bool = True) -> str:
        depth = self.channels(x) // groups
        inputs = [x, self.random(out, depth, kernel, kernel, scale=1 / math.sqrt(depth * kernel**2))]
        inputs += [self.random(out, scale=0.3)] if bias else []
        pads = [kernel // 2] * 4 if pads is None else list(pads)
        return self.op("Conv", *inputs, strides=[stride] * 2, pads=pads, group=groups)

    def depthwise(self, x: str, stride: int = 1, multiplier: int = 1) -> str:
        return self.conv(x, self.channels(x) * multiplier, stride=stride, groups=self.channels(x))

    def batch_norm(self, x: str) -> str:
        c = self.channels(x)
        statistics = [self.random(c), self.random(c), self.random(c), self.constant(self.rng.uniform(0.3, 2, c))]
        return self.op("BatchNormalization", x, *statistics)

    def affine(self, x: str) -> str:
        """A batch norm as some exporters leave it: Mul and Add, either order of the operands."""
        shape = (self.channels(x), *[1] * (len(self.shapes[x]) - 2))
        scaled = self.op("Mul", *self.shuffled(x, self.random(*shape)))
        return self.op("Add", *self.shuffled(scaled, self.random(*shape)))

    def shuffled(self, a: str, b: str) -> tuple[str, str]:
        return (a, b) if self.rng.random() < 0.5 else (b, a)

    def gate(self, x: str) -> str:
        """Squeeze and excitation."""
        c = self.channels(x)
        pooled = self.op("GlobalAveragePool", x)
        hidden = self.op("Relu", self.conv(pooled, max(c // 2, 1), kernel=1))
        return self.op("Mul", *self.shuffled(x, self.op("Sigmoid", self.conv(hidden, c, kernel=1))))

    def nhwc(self, x: str) -> str:
        return self.op("Transpose", x, perm=[0, 2, 3, 1])

    def nchw(self, x: str) -> str:
        return self.op("Transpose", x, perm=[0, 3, 1, 2])

    def shuffle(self, x: str, groups: int) -> str:
        """ShuffleNet's channel shuffle."""
        n, c, h, w = self.shapes[x]
        split = self.op("Reshape", x, self.constant([n, groups, c // groups, h, w], np.int64))
        mixed = self.op("Transpose", split, perm=[0, 2, 1, 3, 4])
        return self.op("Reshape", mixed, self.constant([n, c, h, w], np.int64))

    def pad(self, x: str, value: float = 0.0) -> str:
        widths = [0, 0, *self.rng.integers(0, 3, 2), 0, 0, *self.rng.integers(0, 3, 2)]
        return self.op("Pad", x, self.constant(widths, np.int64), self.constant(value))

    def gemm(self, x: str, out: int) -> str:
        k = self.shapes[x][1]
        return self.op("Gemm", x, self.random(k, out, scale=1 / math.sqrt(k)), self.random(out))


# Activations spelled out in nodes.


def silu(net: Net, x: str) -> str:
    return net.op("Mul", *net.shuffled(x, net.op("Sigmoid", x)))


def hard_swish(net: Net, x: str) -> str:
    clipped = net.op("Clip", net.op("Add", x, net.constant(3.0)), net.constant(0.0), net.constant(6.0))
    return net.op("Div", net.op("Mul", *net.shuffled(x, clipped)), net.constant(6.0))


def hard_swish_by_sigmoid(net: Net, x: str) -> str:
    return net.op("Mul", *net.shuffled(x, net.op("HardSigmoid", x, alpha=1 / 6, beta=0.5)))


def gelu_erf(net: Net, x: str) -> str:
    inner = net.op("Add", net.op("Erf", net.op("Div", x, net.constant(math.sqrt(2)))), net.constant(1.0))
    if net.rng.random() < 0.5:
        return net.op("Mul", net.op("Mul", x, inner), net.constant(0.5))
    return net.op("Mul", net.op("Mul", x, net.constant(0.5)), inner)


def gelu_tanh(net: Net, x: str) -> str:
    if net.rng.random() < 0.5:
        cube = net.op("Pow", x, net.constant(3.0))
    else:
        cube = net.op("Mul", x, net.op("Mul", x, x))
    inner = net.op("Add", x, net.op("Mul", cube, net.constant(0.044715)))
    tanh = net.op("Tanh", net.op("Mul", inner, net.constant(math.sqrt(2 / math.pi))))
    return net.op("Mul", net.op("Mul", x, net.op("Add", tanh, net.constant(1.0))), net.constant(0.5))


def mish(net: Net, x: str) -> str:
    return net.op("Mul", *net.shuffled(x, net.op("Tanh", net.op("Softplus", x))))


SPELLED_OUT: dict[str, Callable[[Net, str], str]] = {
    "Swish": silu,
    "HardSwish": hard_swish,
    "HardSwish by HardSigmoid": hard_swish_by_sigmoid,
    "Gelu 0": gelu_erf,
    "Gelu 1": gelu_tanh,
    "Mish": mish,
}


# Networks by chance.


def random_net(
    rng: np.random.Generator, blocks: int = 6, choices: Sequence[Callable[[Net, str], str]] | None = None
) -> onnx.ModelProto:
    """An image network of random blocks (of `choices`, or of all), each a shape that real exporters produce.

    Now and then a tensor in its middle is an output too.
    """
    choices = choices or BLOCKS
    net = Net(rng)
    channels = int(rng.integers(1, 4)) * 2
    x = net.input(1, channels, int(rng.integers(6, 11)), int(rng.integers(6, 11)))
    for _ in range(blocks):
        x = choices[int(rng.integers(len(choices)))](net, x)
        if min(net.shapes[x][2:]) < 4:
            break
    outputs = [HEADS[int(rng.integers(len(HEADS)))](net, x)]
    if rng.random() < 0.3:
        middle = net.nodes[int(rng.integers(len(net.nodes)))].output[0]
        outputs += [middle] if middle != outputs[0] else []
    return net.model(*outputs)


def _activation(net: Net, x: str) -> str:
    choice = int(net.rng.integers(8))
    if choice < 2:
        return net.op("Relu", x)
    if choice == 2:
        return net.op("Clip", x, net.constant(-0.5), net.constant(1.5))
    if choice == 3:
        return net.op("LeakyRelu", x, alpha=0.1)
    if choice == 4:
        return net.op("PRelu", x, net.random(net.channels(x), 1, 1, scale=0.3))
    if choice == 5:
        return x
    return list(SPELLED_OUT.values())[int(net.rng.integers(len(SPELLED_OUT)))](net, x)


def _norm(net: Net, x: str) -> str:
    return [net.batch_norm, net.affine, lambda v: v][int(net.rng.integers(3))](x)


def _conv_block(net: Net, x: str) -> str:
    kernel = int(net.rng.choice([1, 3]))
    y = net.conv(x, int(net.rng.integers(1, 5)) * 2, kernel, int(net.rng.integers(1, 3)), bias=bool(net.rng.integers(2)))
    return _activation(net, _norm(net, y))


def _separable_block(net: Net, x: str) -> str:
    y = _activation(net, _norm(net, net.depthwise(x, multiplier=int(net.rng.integers(1, 3)))))
    return _norm(net, net.conv(y, net.channels(x), 1))


def _residual_block(net: Net, x: str) -> str:
    y = _activation(net, _norm(net, net.conv(x, net.channels(x), 3)))
    return _activation(net, net.op("Add", *net.shuffled(x, _norm(net, net.conv(y, net.channels(x), 3)))))


def _dense_block(net: Net, x: str) -> str:
    y = net.conv(_activation(net, _norm(net, x)), 4, 3)
    return net.op("Concat", x, y, axis=1)


def _shuffle_block(net: Net, x: str) -> str:
    left, right = net.op("Split", x, outputs=2, axis=1) if net.channels(x) % 4 == 0 else (x, x)
    y = net.op("Concat", left, _activation(net, net.conv(right, net.channels(right), 1)), axis=1)
    return net.shuffle(y, 2)


def _pool_block(net: Net, x: str) -> str:
    choice = int(net.rng.integers(3))
    if choice == 0:
        return net.op("MaxPool", net.pad(net.op("Relu", x)), kernel_shape=[3, 3], strides=[2, 2])
    if choice == 1:
        return net.op("AveragePool", net.pad(x), kernel_shape=[3, 3], strides=[2, 2])
    return net.op("Relu", net.op("MaxPool", net.conv(x, 4, 1), kernel_shape=[2, 2], strides=[1, 1]))


def _padded_block(net: Net, x: str) -> str:
    return _activation(net, net.conv(net.pad(x, value=float(net.rng.choice([0, 0, 1]))), 6, 3, pads=[0, 1, 1, 0]))


def _nhwc_detour(net: Net, x: str) -> str:
    """What a converter from an NHWC framework leaves between its convolutions."""
    y = net.nhwc(net.conv(x, 4, 1))
    y = net.op("Add", net.op("Mul", y, net.random(4)), net.random(4))
    y = net.op("Relu", net.op("Slice", y, *(net.constant(v, np.int64) for v in ([1], [99], [1], [1]))))
    return net.nchw(y)


BLOCKS = (_conv_block, _separable_block, _residual_block, _dense_block, _shuffle_block, _pool_block, _padded_block,
          _nhwc_detour, lambda net, x: net.gate(x), lambda net, x: _activation(net, _norm(net, x)))  # fmt: skip


KEEP_ZERO = tuple(block for block in BLOCKS if block is not _padded_block)
"""Blocks behind whose batch norms a channel of zeros stays one."""


def _pooled_head(net: Net, x: str) -> str:
    y = net.op("Flatten", net.op("GlobalAveragePool", x))
    return net.op("Softmax", net.gemm(y, 5), axis=-1)


def _flatten_head(net: Net, x: str) -> str:
    y = net.op("Flatten", x)
    return net.gemm(net.op("Relu", net.affine(net.gemm(y, 6))), 3)


def _nhwc_flatten_head(net: Net, x: str) -> str:
    y = net.nhwc(x)
    y = net.op("Reshape", y, net.constant([1, -1], np.int64))
    return net.gemm(y, 4)


def _image_head(net: Net, x: str) -> str:
    return net.op("Sigmoid", net.conv(x, 2, 1))


HEADS = (_pooled_head, _flatten_head, _nhwc_flatten_head, _image_head)


# Execution.


def tapped(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with every intermediate tensor as an output."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    known = {o.name for o in copy.graph.output}
    for node in copy.graph.node:
        for name in node.output:
            if name and name not in known:
                copy.graph.output.append(helper.make_empty_tensor_value_info(name))
    return copy


def run_onnx(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Output name -> array from ONNX Runtime, without its graph optimizations."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, inputs), strict=True))


def random_inputs(model: onnx.ModelProto, rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        i.name: rng.standard_normal([d.dim_value for d in i.type.tensor_type.shape.dim]).astype(np.float32)
        for i in model.graph.input
    }
