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

import sys
from pathlib import Path

import numpy as np
import onnx
from sklearn.datasets import load_digits

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from training import BatchNorm, Conv, Depthwise, Export, Head, MaxPool, Relu, Residual, Sequence, train

SEED = 7
EPOCHS = 90
BATCH = 32
CALIBRATION = 297
TEST = 500


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
    """What the network sees: each image, shifted by up to one pixel in each direction."""
    padded = np.pad(x.astype(np.float32) / 16, ((0, 0), (1, 1), (1, 1), (0, 0)))
    dy, dx = rng.integers(0, 3, (2, len(x)))
    rows, cols = dy[:, None] + np.arange(8), dx[:, None] + np.arange(8)
    return padded[np.arange(len(x))[:, None, None], rows[:, :, None], cols[:, None, :]]


def main() -> None:
    here = Path(__file__).resolve().parent
    rng = np.random.default_rng(SEED)
    digits = load_digits()
    order = rng.permutation(len(digits.target))
    x = digits.images[order].astype(np.uint8)[..., None]
    y = digits.target[order].astype(np.int64)
    fit_x, fit_y = x[TEST:], y[TEST:]
    net = network(rng)
    train(net, fit_x, fit_y, rng, epochs=EPOCHS, batch=BATCH, augment=augment)
    predicted = net.forward(x[:TEST].astype(np.float32) / 16, training=False).argmax(1)
    print(f"test top-1 {(predicted == y[:TEST]).mean():.4f} on {TEST} images")
    export = Export()
    net.export(export, "image")
    onnx.save(export.model("digits", ("image", (1, 8, 8)), ("logits", 10)), here / "digits.onnx")
    np.savez_compressed(here / "digits_test.npz", x=x[:TEST], y=y[:TEST])
    np.savez_compressed(here / "digits_calib.npz", x=fit_x[:CALIBRATION], y=fit_y[:CALIBRATION])


if __name__ == "__main__":
    main()
