# SPDX-License-Identifier: Apache-2.0
"""The networks that speed is measured on: real topologies with seeded random weights, as ONNX files.

    python benchmarks/zoo.py FOLDER [NAME ...]

Weights are drawn so that activations keep their size (He et al. 2015, arXiv:1502.01852); batch normalization is
folded into them, as a converter does anyway. Time depends on shapes, not on what the weights say.
"""

from __future__ import annotations

import argparse
import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17


@dataclass
class Net:
    """An ONNX graph under construction; tensors are NCHW and known by name, with their channels and size.

    Attributes:
        shapes: tensor -> (channels, height, width), or (features,) behind `flatten`.
    """

    name: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(zlib.crc32(self.name.encode()))

    def input(self, *shape: int) -> str:
        self.shapes["input"] = shape
        return "input"

    def node(self, op: str, inputs: list[str], shape: tuple[int, ...], **attributes: object) -> str:
        output = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        self.shapes[output] = shape
        return output

    def constant(self, values: np.ndarray) -> str:
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def conv(
        self,
        x: str,
        channels: int,
        kernel: int | tuple[int, int] = 1,
        stride: int | tuple[int, int] = 1,
        groups: int = 1,
        gain: float = 2.0,
        pads: tuple[int, int, int, int] | None = None,
    ) -> str:
        """A convolution with bias; `same` padding as PyTorch models have it unless `pads` (top, left, bottom, right)."""
        kh, kw = (kernel, kernel) if isinstance(kernel, int) else kernel
        sh, sw = (stride, stride) if isinstance(stride, int) else stride
        top, left, bottom, right = pads or (kh // 2, kw // 2, kh // 2, kw // 2)
        c, h, w = self.shapes[x]
        depth = c // groups * kh * kw
        weight = self.constant(self.rng.normal(0, (gain / depth) ** 0.5, (channels, c // groups, kh, kw)))
        bias = self.constant(self.rng.normal(0, 0.1, channels))
        size = (channels, (h + top + bottom - kh) // sh + 1, (w + left + right - kw) // sw + 1)
        window = {"kernel_shape": [kh, kw], "strides": [sh, sw], "pads": [top, left, bottom, right]}
        return self.node("Conv", [x, weight, bias], size, group=groups, **window)

    def depthwise(self, x: str, kernel: int = 3, stride: int = 1, pads: tuple[int, int, int, int] | None = None) -> str:
        channels = self.shapes[x][0]
        return self.conv(x, channels, kernel, stride, groups=channels, pads=pads)

    def relu(self, x: str) -> str:
        return self.node("Relu", [x], self.shapes[x])

    def relu6(self, x: str) -> str:
        low, high = (self.scalar(value) for value in (0.0, 6.0))
        return self.node("Clip", [x, low, high], self.shapes[x])

    def silu(self, x: str) -> str:
        return self.mul(x, self.node("Sigmoid", [x], self.shapes[x]))

    def scalar(self, value: float) -> str:
        return self.constant(np.array(value))

    def add(self, x: str, y: str) -> str:
        return self.node("Add", [x, y], self.shapes[x])

    def mul(self, x: str, y: str) -> str:
        return self.node("Mul", [x, y], self.shapes[x])

    def concat(self, *tensors: str) -> str:
        channels = sum(self.shapes[x][0] for x in tensors)
        return self.node("Concat", list(tensors), (channels, *self.shapes[tensors[0]][1:]), axis=1)

    def max_pool(self, x: str, kernel: int, stride: int, pad: int = 0) -> str:
        c, h, w = self.shapes[x]
        size = (c, (h + 2 * pad - kernel) // stride + 1, (w + 2 * pad - kernel) // stride + 1)
        window = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
        return self.node("MaxPool", [x], size, **window)

    def mean(self, x: str) -> str:
        return self.node("GlobalAveragePool", [x], (self.shapes[x][0], 1, 1))

    def dense(self, x: str, features: int, gain: float = 2.0) -> str:
        depth = int(np.prod(self.shapes[x]))
        if len(self.shapes[x]) > 1:
            x = self.node("Flatten", [x], (depth,))
        weight = self.constant(self.rng.normal(0, (gain / depth) ** 0.5, (features, depth)))
        bias = self.constant(self.rng.normal(0, 0.1, features))
        return self.node("Gemm", [x, weight, bias], (features,), transB=1)

    def softmax(self, x: str) -> str:
        return self.node("Softmax", [x], self.shapes[x], axis=1)

    # Transformers: tensors are tokens x features.

    def integers(self, values: int | list[int]) -> str:
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def reshape(self, x: str, *shape: int) -> str:
        return self.node("Reshape", [x, self.integers([1, *shape])], shape)

    def transpose(self, x: str, *perm: int) -> str:
        """`perm` counts the batch."""
        shape = (1, *self.shapes[x])
        return self.node("Transpose", [x], tuple(shape[axis] for axis in perm[1:]), perm=list(perm))

    def linear(self, x: str, features: int) -> str:
        """A dense layer on each token."""
        tokens, depth = self.shapes[x]
        weight = self.constant(self.rng.normal(0, depth**-0.5, (depth, features)))
        product = self.node("MatMul", [x, weight], (tokens, features))
        return self.add(product, self.constant(self.rng.normal(0, 0.1, features)))

    def layer_norm(self, x: str) -> str:
        width = self.shapes[x][-1]
        scale = self.constant(self.rng.normal(1, 0.1, width))
        bias = self.constant(self.rng.normal(0, 0.1, width))
        return self.node("LayerNormalization", [x, scale, bias], self.shapes[x], axis=-1, epsilon=1e-6)

    def gelu(self, x: str) -> str:
        """By its error function, as exporters spell it before opset 20."""
        shape = self.shapes[x]
        error = self.node("Erf", [self.node("Div", [x, self.scalar(2**0.5)], shape)], shape)
        return self.mul(self.mul(x, self.add(error, self.scalar(1.0))), self.scalar(0.5))

    def attention(self, x: str, heads: int) -> str:
        """Self-attention with queries, keys and values from one dense layer."""
        tokens, width = self.shapes[x]
        depth = width // heads
        parts = self.split(self.linear(x, 3 * width), 3)
        q, k, v = (self.transpose(self.reshape(part, tokens, heads, depth), 0, 2, 1, 3) for part in parts)
        scores = self.node("MatMul", [q, self.transpose(k, 0, 1, 3, 2)], (heads, tokens, tokens))
        scores = self.mul(scores, self.scalar(depth**-0.5))
        weights = self.node("Softmax", [scores], self.shapes[scores], axis=-1)
        mixed = self.transpose(self.node("MatMul", [weights, v], (heads, tokens, depth)), 0, 2, 1, 3)
        return self.linear(self.reshape(mixed, tokens, width), width)

    def split(self, x: str, parts: int) -> list[str]:
        """Equal parts of the last axis."""
        *outer, width = self.shapes[x]
        names = [f"split_{len(self.nodes)}_{i}" for i in range(parts)]
        sizes = self.integers([width // parts] * parts)
        self.nodes.append(helper.make_node("Split", [x, sizes], names, name=f"split_{len(self.nodes)}", axis=-1))
        self.shapes |= dict.fromkeys(names, (*outer, width // parts))
        return names

    def finish(self, output: str) -> onnx.ModelProto:
        """The checked model; batch 1."""
        self.nodes[-1].output[0] = "output"
        ports = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, *shape])
            for name, shape in (("input", self.shapes["input"]), ("output", self.shapes[output]))
        ]
        graph = helper.make_graph(self.nodes, self.name, ports[:1], ports[1:], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model


# ---- MLPerf Tiny (Banbury et al. 2021, arXiv:2106.07597) ----------------------------------------------


def resnet8() -> onnx.ModelProto:
    """Image classification of MLPerf Tiny: three residual stages on 32x32 images."""
    net = Net("resnet8")
    x = net.relu(net.conv(net.input(3, 32, 32), 16, 3))
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        pads = (0, 0, 1, 1) if stride == 2 else None
        y = net.relu(net.conv(x, channels, 3, stride, pads=pads))
        y = net.conv(y, channels, 3)
        shortcut = net.conv(x, channels, 1, stride) if stride == 2 else x
        x = net.relu(net.add(shortcut, y))
    return net.finish(net.softmax(net.dense(net.mean(x), 10)))


def dscnn() -> onnx.ModelProto:
    """Keyword spotting of MLPerf Tiny: 49 frames of 10 coefficients."""
    net = Net("dscnn")
    x = net.relu(net.conv(net.input(1, 49, 10), 64, (10, 4), 2, pads=(4, 1, 5, 1)))
    for _ in range(4):
        x = net.relu(net.conv(net.relu(net.depthwise(x)), 64))
    return net.finish(net.softmax(net.dense(net.mean(x), 12)))


def mobilenet_v1() -> onnx.ModelProto:
    """MobileNetV1 (arXiv:1704.04861) with a quarter of the channels at 96x96: visual wake words of MLPerf Tiny."""
    net = Net("mobilenet_v1_025")
    x = net.relu6(net.conv(net.input(3, 96, 96), 8, 3, 2, pads=(0, 0, 1, 1)))
    blocks = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2), (256, 1)]
    for channels, stride in blocks:
        pads = (0, 0, 1, 1) if stride == 2 else None
        x = net.relu6(net.depthwise(x, stride=stride, pads=pads))
        x = net.relu6(net.conv(x, channels))
    return net.finish(net.softmax(net.dense(net.mean(x), 2)))


def autoencoder() -> onnx.ModelProto:
    """Anomaly detection of MLPerf Tiny: dense layers 640-128-128-128-128-8-128-128-128-128-640."""
    net = Net("autoencoder")
    x = net.input(640)
    for features in (128, 128, 128, 128, 8, 128, 128, 128, 128):
        x = net.relu(net.dense(x, features))
    return net.finish(net.dense(x, 640))


# ---- Networks for 224x224 images ----------------------------------------------------------------------


def mobilenet_v2() -> onnx.ModelProto:
    """MobileNetV2 1.0 (arXiv:1801.04381)."""
    net = Net("mobilenet_v2")
    x = net.relu6(net.conv(net.input(3, 224, 224), 32, 3, 2))
    stages = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for expansion, channels, blocks, first_stride in stages:
        for stride in (first_stride, *[1] * (blocks - 1)):
            narrow = net.shapes[x][0]
            y = net.relu6(net.conv(x, narrow * expansion)) if expansion > 1 else x
            y = net.conv(net.relu6(net.depthwise(y, stride=stride)), channels, gain=1.0)
            x = net.add(x, y) if stride == 1 and narrow == channels else y
    x = net.relu6(net.conv(x, 1280))
    return net.finish(net.dense(net.mean(x), 1000))


def resnet(depth: int) -> onnx.ModelProto:
    """ResNet-18 or ResNet-50 (arXiv:1512.03385); the latter has its stride in the 3x3 layer, as torchvision's."""
    net = Net(f"resnet{depth}")
    x = net.relu(net.conv(net.input(3, 224, 224), 64, 7, 2))
    x = net.max_pool(x, 3, 2, pad=1)
    blocks, expansion = {18: ((2, 2, 2, 2), 1), 50: ((3, 4, 6, 3), 4)}[depth]
    for stage, count in enumerate(blocks):
        channels = 64 << stage
        for block in range(count):
            stride = 2 if stage > 0 and block == 0 else 1
            if expansion == 1:
                y = net.conv(net.relu(net.conv(x, channels, 3, stride)), channels, 3, gain=1.0)
            else:
                y = net.relu(net.conv(net.relu(net.conv(x, channels)), channels, 3, stride))
                y = net.conv(y, channels * expansion, gain=0.5)
            same = stride == 1 and net.shapes[x][0] == channels * expansion
            x = net.relu(net.add(x if same else net.conv(x, channels * expansion, 1, stride, gain=1.0), y))
    return net.finish(net.dense(net.mean(x), 1000))


def squeezenet() -> onnx.ModelProto:
    """SqueezeNet 1.1 (arXiv:1602.07360)."""
    net = Net("squeezenet1_1")
    x = net.relu(net.conv(net.input(3, 224, 224), 64, 3, 2, pads=(0, 0, 0, 0)))
    for squeeze, expand in ((0, 0), (16, 64), (16, 64), (0, 0), (32, 128), (32, 128), (0, 0), (48, 192), (48, 192), (64, 256), (64, 256)):
        if squeeze == 0:
            x = net.max_pool(x, 3, 2)
            continue
        narrow = net.relu(net.conv(x, squeeze))
        x = net.concat(net.relu(net.conv(narrow, expand)), net.relu(net.conv(narrow, expand, 3)))
    return net.finish(net.node("Flatten", [net.mean(net.relu(net.conv(x, 1000)))], (1000,)))


def efficientnet_b0() -> onnx.ModelProto:
    """EfficientNet-B0 (arXiv:1905.11946): SiLU and squeeze-and-excitation."""
    net = Net("efficientnet_b0")
    x = net.silu(net.conv(net.input(3, 224, 224), 32, 3, 2))
    stages = [(1, 3, 16, 1, 1), (6, 3, 24, 2, 2), (6, 5, 40, 2, 2), (6, 3, 80, 3, 2), (6, 5, 112, 3, 1), (6, 5, 192, 4, 2), (6, 3, 320, 1, 1)]
    for expansion, kernel, channels, blocks, first_stride in stages:
        for stride in (first_stride, *[1] * (blocks - 1)):
            narrow = net.shapes[x][0]
            y = net.silu(net.conv(x, narrow * expansion)) if expansion > 1 else x
            y = net.silu(net.depthwise(y, kernel, stride))
            gate = net.silu(net.conv(net.mean(y), max(1, narrow // 4)))
            gate = net.conv(gate, narrow * expansion)
            y = net.mul(y, net.node("Sigmoid", [gate], net.shapes[gate]))
            y = net.conv(y, channels, gain=4.0)  # the gate halves
            x = net.add(x, y) if stride == 1 and narrow == channels else y
    x = net.silu(net.conv(x, 1280))
    return net.finish(net.dense(net.mean(x), 1000))


def deit_tiny() -> onnx.ModelProto:
    """DeiT-tiny (arXiv:2012.12877): 12 blocks of attention with 3 heads on 196 patches of 16x16 and a class token."""
    net, width, heads, layers = Net("deit_tiny"), 192, 3, 12
    patches = net.conv(net.input(3, 224, 224), width, 16, 16, gain=1.0, pads=(0, 0, 0, 0))
    tokens = int(np.prod(net.shapes[patches][1:])) + 1
    x = net.reshape(patches, width, tokens - 1)
    x = net.transpose(x, 0, 2, 1)
    token = net.constant(net.rng.normal(0, 1.0, (1, 1, width)))
    x = net.node("Concat", [token, x], (tokens, width), axis=1)
    x = net.add(x, net.constant(net.rng.normal(0, 0.1, (1, tokens, width))))
    for _ in range(layers):
        x = net.add(x, net.attention(net.layer_norm(x), heads))
        y = net.gelu(net.linear(net.layer_norm(x), 4 * width))
        x = net.add(x, net.linear(y, width))
    first = net.node("Gather", [net.layer_norm(x), net.integers(0)], (width,), axis=1)
    return net.finish(net.dense(first, 1000))


ZOO: dict[str, Callable[[], onnx.ModelProto]] = {
    "resnet8": resnet8,
    "dscnn": dscnn,
    "mobilenet_v1_025": mobilenet_v1,
    "autoencoder": autoencoder,
    "mobilenet_v2": mobilenet_v2,
    "resnet18": lambda: resnet(18),
    "resnet50": lambda: resnet(50),
    "squeezenet1_1": squeezenet,
    "efficientnet_b0": efficientnet_b0,
    "deit_tiny": deit_tiny,
}


def macs(model: onnx.ModelProto) -> int:
    """Multiply-accumulates of one inference in convolutions, dense layers and products of matrices."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    shapes = {w.name: tuple(w.dims) for w in inferred.graph.initializer}
    for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        shapes[value.name] = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
    total = 0
    for node in inferred.graph.node:
        if node.op_type == "Conv":
            depth = int(np.prod(shapes[node.input[1]][1:]))
        elif node.op_type in ("Gemm", "MatMul"):
            transposed = any(a.name == "transA" and a.i for a in node.attribute)
            depth = shapes[node.input[0]][0 if transposed else -1]
        else:
            continue
        total += depth * int(np.prod(shapes[node.output[0]]))
    return total


def digest(path: Path) -> str:
    """Of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make(name: str, folder: Path) -> Path:
    """Writes one network, if it is not there yet; its path."""
    path = folder / f"{name}.onnx"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        onnx.save(ZOO[name](), path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", choices=[*ZOO, []], metavar="NAME", help=", ".join(ZOO))
    arguments = parser.parse_args()
    for name in arguments.names or ZOO:
        print(make(name, arguments.folder))


if __name__ == "__main__":
    main()
