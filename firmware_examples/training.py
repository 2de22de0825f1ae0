# SPDX-License-Identifier: Apache-2.0
"""Layers, training and export of the example networks: plain NumPy and onnx.

Activations are float32[N,H,W,C]. A layer keeps what its last `forward` computed for its `backward`, which takes the loss's gradient
with respect to the output, sets those of the layer's parameters and returns the one with respect to the input.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from onnx import TensorProto, helper, numpy_helper


class Parameter:
    """A weight with its gradient and Adam's two moments (Kingma and Ba, 2015)."""

    def __init__(self, value: np.ndarray) -> None:
        self.value = value.astype(np.float32)
        self.grad = np.zeros_like(self.value)
        self.first = np.zeros_like(self.value)
        self.second = np.zeros_like(self.value)

    def step(self, rate: float, t: int, decay: float = 0.0) -> None:
        self.first = 0.9 * self.first + 0.1 * self.grad
        self.second = 0.999 * self.second + 0.001 * self.grad**2
        mean = self.first / (1 - 0.9**t)
        variance = self.second / (1 - 0.999**t)
        self.value -= rate * (mean / (np.sqrt(variance) + 1e-8) + decay * self.value)


def windows(x: np.ndarray, size: int) -> np.ndarray:
    """[N,H,W,C] -> [N,H,W,C,size,size], zero-padded to the same H and W."""
    pad = size // 2
    return sliding_window_view(np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0))), (size, size), axis=(1, 2))


class Conv:
    """Padded by half its odd size, no bias: a batch norm follows."""

    def __init__(self, rng: np.random.Generator, size: int, inputs: int, outputs: int, stride: int = 1) -> None:
        self.stride = stride
        fan_in = size * size * inputs
        self.w = Parameter(rng.normal(0, np.sqrt(2 / fan_in), (outputs, inputs, size, size)))

    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        self.area = x.shape[1:3]
        self.x = windows(x, self.w.value.shape[-1])[:, :: self.stride, :: self.stride]
        return np.tensordot(self.x, self.w.value, ((3, 4, 5), (1, 2, 3)))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        self.w.grad = np.tensordot(dy, self.x, ((0, 1, 2), (0, 1, 2)))
        if self.stride > 1:
            spread = np.zeros((len(dy), *self.area, dy.shape[3]), dy.dtype)
            spread[:, :: self.stride, :: self.stride] = dy
            dy = spread
        flipped = self.w.value[:, :, ::-1, ::-1]
        return np.tensordot(windows(dy, flipped.shape[-1]), flipped, ((3, 4, 5), (0, 2, 3)))

    def parameters(self) -> list[Parameter]:
        return [self.w]

    def export(self, net: Export, x: str) -> str:
        size = self.w.value.shape[-1]
        attributes = {"kernel_shape": [size] * 2, "pads": [size // 2] * 4}
        if self.stride > 1:
            attributes["strides"] = [self.stride] * 2
        return net.node("Conv", [x, net.constant(self.w.value)], **attributes)


class Depthwise:
    """3x3, stride 1, same padding, no bias."""

    def __init__(self, rng: np.random.Generator, channels: int) -> None:
        self.w = Parameter(rng.normal(0, np.sqrt(2 / 9), (channels, 3, 3)))

    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        self.x = windows(x, 3)
        return np.einsum("nhwcij,cij->nhwc", self.x, self.w.value, optimize=True)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        self.w.grad = np.einsum("nhwcij,nhwc->cij", self.x, dy, optimize=True)
        return np.einsum("nhwcij,cij->nhwc", windows(dy, 3), self.w.value[:, ::-1, ::-1], optimize=True)

    def parameters(self) -> list[Parameter]:
        return [self.w]

    def export(self, net: Export, x: str) -> str:
        w = net.constant(self.w.value[:, None])
        return net.node("Conv", [x, w], kernel_shape=[3, 3], pads=[1] * 4, group=len(self.w.value))


class BatchNorm:
    def __init__(self, channels: int) -> None:
        self.gamma, self.beta = Parameter(np.ones(channels)), Parameter(np.zeros(channels))
        self.mean, self.variance = np.zeros(channels, np.float32), np.ones(channels, np.float32)

    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        mean, variance = self.mean, self.variance
        if training:
            mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
            self.mean = 0.9 * self.mean + 0.1 * mean
            self.variance = 0.9 * self.variance + 0.1 * variance
        self.scale = 1 / np.sqrt(variance + 1e-5)
        self.normal = (x - mean) * self.scale
        return self.normal * self.gamma.value + self.beta.value

    def backward(self, dy: np.ndarray) -> np.ndarray:
        self.gamma.grad = (dy * self.normal).sum((0, 1, 2))
        self.beta.grad = dy.sum((0, 1, 2))
        count = dy.size // dy.shape[-1]
        centred = dy - self.beta.grad / count - self.normal * self.gamma.grad / count
        return centred * self.gamma.value * self.scale

    def parameters(self) -> list[Parameter]:
        return [self.gamma, self.beta]

    def export(self, net: Export, x: str) -> str:
        fields = (self.gamma.value, self.beta.value, self.mean, self.variance)
        return net.node("BatchNormalization", [x, *map(net.constant, fields)], epsilon=1e-5)


class Relu:
    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        self.open = x > 0
        return x * self.open

    def backward(self, dy: np.ndarray) -> np.ndarray:
        return dy * self.open

    def parameters(self) -> list[Parameter]:
        return []

    def export(self, net: Export, x: str) -> str:
        return net.node("Relu", [x])


class MaxPool:
    """2x2, stride 2."""

    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        n, h, w, c = x.shape
        blocks = x.reshape(n, h // 2, 2, w // 2, 2, c)
        y = blocks.max((2, 4))
        self.chosen = blocks == y[:, :, None, :, None]
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        n, h, w, c = dy.shape
        share = dy / self.chosen.sum((2, 4))
        return (self.chosen * share[:, :, None, :, None]).reshape(n, 2 * h, 2 * w, c)

    def parameters(self) -> list[Parameter]:
        return []

    def export(self, net: Export, x: str) -> str:
        return net.node("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])


class Residual:
    """x + body(x)"""

    def __init__(self, *body: Layer) -> None:
        self.body = Sequence(*body)

    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        return x + self.body.forward(x, training)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        return dy + self.body.backward(dy)

    def parameters(self) -> list[Parameter]:
        return self.body.parameters()

    def export(self, net: Export, x: str) -> str:
        return net.node("Add", [x, self.body.export(net, x)])


class Head:
    """Global average pooling and a dense layer."""

    def __init__(self, rng: np.random.Generator, channels: int, classes: int) -> None:
        self.w = Parameter(rng.normal(0, np.sqrt(1 / channels), (classes, channels)))
        self.b = Parameter(np.zeros(classes))

    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        self.area = x.shape[1:3]
        self.pooled = x.mean((1, 2))
        return self.pooled @ self.w.value.T + self.b.value

    def backward(self, dy: np.ndarray) -> np.ndarray:
        self.w.grad, self.b.grad = dy.T @ self.pooled, dy.sum(0)
        height, width = self.area
        spread = (dy @ self.w.value / (height * width))[:, None, None]
        return np.broadcast_to(spread, (len(dy), height, width, self.w.value.shape[1]))

    def parameters(self) -> list[Parameter]:
        return [self.w, self.b]

    def export(self, net: Export, x: str) -> str:
        pooled = net.node("Flatten", [net.node("GlobalAveragePool", [x])])
        return net.node("Gemm", [pooled, net.constant(self.w.value), net.constant(self.b.value)], transB=1)


class Sequence:
    def __init__(self, *layers: Layer) -> None:
        self.layers = layers

    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        for layer in self.layers:
            x = layer.forward(x, training)
        return x

    def backward(self, dy: np.ndarray) -> np.ndarray:
        for layer in reversed(self.layers):
            dy = layer.backward(dy)
        return dy

    def parameters(self) -> list[Parameter]:
        return [p for layer in self.layers for p in layer.parameters()]

    def export(self, net: Export, x: str) -> str:
        for layer in self.layers:
            x = layer.export(net, x)
        return x


Layer = Conv | Depthwise | BatchNorm | Relu | MaxPool | Residual | Head | Sequence


class Export:
    """Collects the nodes of an ONNX graph."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: np.ndarray) -> str:
        name = f"weight_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name))
        return name

    def node(self, op: str, inputs: list[str], **attributes: object) -> str:
        name = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def model(self, name: str, image: tuple[str, tuple[int, ...]], output: tuple[str, int]) -> onnx.ModelProto:
        """The graph, checked; its last node gives the output.

        Args:
            image: name and shape [C,H,W] of the input, for a batch of one.
            output: name, and the number of classes.
        """
        self.nodes[-1].output[0] = output[0]
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info(image[0], TensorProto.FLOAT, [1, *image[1]])],
            [helper.make_tensor_value_info(output[0], TensorProto.FLOAT, [1, output[1]])],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="edgekit example")
        model.ir_version = 8
        onnx.checker.check_model(model, full_check=True)
        return model


def train(
    net: Sequence,
    x: np.ndarray,
    y: np.ndarray,
    rng: np.random.Generator,
    *,
    epochs: int,
    batch: int,
    augment: Callable[[np.ndarray, np.random.Generator], np.ndarray],
) -> None:
    """Cross entropy, Adam with decoupled weight decay and a cosine schedule.

    Args:
        x: [N,H,W,C]; `augment` makes float32 of what the network sees from a batch of it.
        y: int64[N] classes.
    """
    steps = epochs * (len(x) // batch)
    t = 0
    for epoch in range(epochs):
        order, loss = rng.permutation(len(x)), 0.0
        for chosen in order[: len(x) // batch * batch].reshape(-1, batch):
            t += 1
            logits = net.forward(augment(x[chosen], rng), training=True)
            p = np.exp(logits - logits.max(1, keepdims=True))
            p /= p.sum(1, keepdims=True)
            loss -= np.log(p[np.arange(batch), y[chosen]] + 1e-9).mean()
            p[np.arange(batch), y[chosen]] -= 1
            net.backward(p / batch)
            rate = 5e-3 * 0.5 * (1 + np.cos(np.pi * t / steps))
            for parameter in net.parameters():
                parameter.step(rate, t, decay=1e-2 if parameter.value.ndim > 1 else 0.0)
        print(f"epoch {epoch + 1:2d}  loss {loss / (len(x) // batch):.4f}", flush=True)
