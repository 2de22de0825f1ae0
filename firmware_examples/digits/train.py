# SPDX-License-Identifier: Apache-2.0
"""Trains the example network on scikit-learn's digits and writes its model and data.

    python firmware_examples/digits/train.py

writes `digits.onnx`, `digits_calib.npz` and `digits_test.npz` beside this file: a residual CNN of
about 7,000 weights with batch normalization, depthwise convolution and pooling. It needs NumPy, onnx and
scikit-learn (for its data), and takes about a minute. Training is plain NumPy, so that
the example can be repeated without a deep learning framework.

Data: 1,797 images of 8x8 pixels with values 0 to 16 (E. Alpaydin, C. Kaynak, "Optical Recognition of
Handwritten Digits", UCI Machine Learning Repository, CC BY 4.0). The network sees x / 16.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits

SEED = 7
EPOCHS = 90
BATCH = 32
CALIBRATION = 297
TEST = 500


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
    """Stride 1, same padding, no bias: a batch norm follows."""

    def __init__(self, rng: np.random.Generator, size: int, inputs: int, outputs: int) -> None:
        fan_in = size * size * inputs
        self.w = Parameter(rng.normal(0, np.sqrt(2 / fan_in), (outputs, inputs, size, size)))

    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        self.x = windows(x, self.w.value.shape[-1])
        return np.tensordot(self.x, self.w.value, ((3, 4, 5), (1, 2, 3)))

    def backward(self, dy: np.ndarray) -> np.ndarray:
        self.w.grad = np.tensordot(dy, self.x, ((0, 1, 2), (0, 1, 2)))
        flipped = self.w.value[:, :, ::-1, ::-1]
        return np.tensordot(windows(dy, flipped.shape[-1]), flipped, ((3, 4, 5), (0, 2, 3)))

    def parameters(self) -> list[Parameter]:
        return [self.w]

    def export(self, net: Export, x: str) -> str:
        size = self.w.value.shape[-1]
        return net.node("Conv", [x, net.constant(self.w.value)], kernel_shape=[size] * 2, pads=[size // 2] * 4)


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
        self.area = x.shape[1] * x.shape[2]
        self.pooled = x.mean((1, 2))
        return self.pooled @ self.w.value.T + self.b.value

    def backward(self, dy: np.ndarray) -> np.ndarray:
        self.w.grad, self.b.grad = dy.T @ self.pooled, dy.sum(0)
        side = int(np.sqrt(self.area))
        spread = (dy @ self.w.value / self.area)[:, None, None]
        return np.broadcast_to(spread, (len(dy), side, side, self.w.value.shape[1]))

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

    def model(self, output: str) -> onnx.ModelProto:
        self.nodes[-1].output[0] = "logits"
        graph = helper.make_graph(
            self.nodes,
            "digits",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 8, 8])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 10])],
            self.constants,
        )
        assert output == self.nodes[-1].name
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="edgekit example")
        model.ir_version = 8
        onnx.checker.check_model(model, full_check=True)
        return model


def network(rng: np.random.Generator) -> Sequence:
    return Sequence(
        Conv(rng, 3, 1, 16), BatchNorm(16), Relu(),
        Residual(Depthwise(rng, 16), BatchNorm(16), Relu(), Conv(rng, 1, 16, 16), BatchNorm(16)), Relu(),
        MaxPool(),
        Conv(rng, 3, 16, 32), BatchNorm(32), Relu(),
        Residual(Depthwise(rng, 32), BatchNorm(32), Relu(), Conv(rng, 1, 32, 32), BatchNorm(32)), Relu(),
        Head(rng, 32, 10),
    )  # fmt: skip


def augment(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shifts each image by up to one pixel in each direction."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    dy, dx = rng.integers(0, 3, (2, len(x)))
    rows, cols = dy[:, None] + np.arange(8), dx[:, None] + np.arange(8)
    return padded[np.arange(len(x))[:, None, None], rows[:, :, None], cols[:, None, :]]


def train(net: Sequence, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> None:
    """Cross entropy, Adam with decoupled weight decay and a cosine schedule."""
    steps = EPOCHS * (len(x) // BATCH)
    t = 0
    for epoch in range(EPOCHS):
        order, loss = rng.permutation(len(x)), 0.0
        for batch in order[: len(x) // BATCH * BATCH].reshape(-1, BATCH):
            t += 1
            logits = net.forward(augment(x[batch], rng), training=True)
            p = np.exp(logits - logits.max(1, keepdims=True))
            p /= p.sum(1, keepdims=True)
            loss -= np.log(p[np.arange(BATCH), y[batch]] + 1e-9).mean()
            p[np.arange(BATCH), y[batch]] -= 1
            net.backward(p / BATCH)
            rate = 5e-3 * 0.5 * (1 + np.cos(np.pi * t / steps))
            for parameter in net.parameters():
                parameter.step(rate, t, decay=1e-2 if parameter.value.ndim > 1 else 0.0)
        print(f"epoch {epoch + 1:2d}  loss {loss / (len(x) // BATCH):.4f}", flush=True)


def main() -> None:
    here = Path(__file__).resolve().parent
    rng = np.random.default_rng(SEED)
    digits = load_digits()
    order = rng.permutation(len(digits.target))
    x = digits.images[order].astype(np.uint8)[..., None]
    y = digits.target[order].astype(np.int64)
    fit_x, fit_y = x[TEST:], y[TEST:]
    net = network(rng)
    train(net, fit_x.astype(np.float32) / 16, fit_y, rng)
    predicted = net.forward(x[:TEST].astype(np.float32) / 16, training=False).argmax(1)
    print(f"test top-1 {(predicted == y[:TEST]).mean():.4f} on {TEST} images")
    export = Export()
    onnx.save(export.model(net.export(export, "image")), here / "digits.onnx")
    np.savez_compressed(here / "digits_test.npz", x=x[:TEST], y=y[:TEST])
    np.savez_compressed(here / "digits_calib.npz", x=fit_x[:CALIBRATION], y=fit_y[:CALIBRATION])


if __name__ == "__main__":
    main()
