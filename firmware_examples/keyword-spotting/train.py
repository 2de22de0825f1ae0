# SPDX-License-Identifier: Apache-2.0
"""Trains the keyword network and writes its model and data.

    python firmware_examples/keyword-spotting/train.py [RECORDINGS]

trains on synthetic words, or on those of a folder as `recordings.py` describes it, and writes `keywords.onnx`, `keywords_calib.npz` and `keywords_test.npz` beside this file: a network of depthwise-separable
convolutions with batch normalization, and int8 features, of which it sees x / 32. It needs NumPy and onnx.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import words
from log_mel import BANDS, FRAMES, log_mel
from recordings import Recordings
from words import LABELS

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from training import BatchNorm, Conv, Depthwise, Export, Head, Layer, MaxPool, Relu, Sequence, train

SEED = 7
EPOCHS = 14
BATCH = 32
FIT = 4000
TEST = 400
CALIBRATION = 96
FIT_SHARE = 0.9
"""Of recordings; the others are the test's."""
SCALE = np.float32(32)

Clips = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""Makes or chooses a clip for each label: indices of `LABELS` to int16[N, RATE]."""


def network(rng: np.random.Generator) -> Sequence:
    """[N,48,16,1] to [N,8]; 4,960 weights without biases and normalization."""
    return Sequence(
        Conv(rng, 3, 1, 16, stride=2), BatchNorm(16), Relu(),
        *separable(rng, 16, 32),
        MaxPool(),
        *separable(rng, 32, 32),
        *separable(rng, 32, 64),
        Head(rng, 64, len(LABELS)),
    )  # fmt: skip


def separable(rng: np.random.Generator, inputs: int, outputs: int) -> list[Layer]:
    """A depthwise convolution and a pointwise one."""
    return [
        Depthwise(rng, inputs), BatchNorm(inputs), Relu(),
        Conv(rng, 1, inputs, outputs), BatchNorm(outputs), Relu(),
    ]  # fmt: skip


def sources(folder: Path | None) -> tuple[Clips, Clips]:
    """Where training and test have their clips from; no recording is in both."""
    if folder is None:
        return words.clips, words.clips
    return Recordings(folder, 0, FIT_SHARE).clips, Recordings(folder, FIT_SHARE, 1).clips


def labelled(clips: Clips, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Features int8[N,48,16,1] of random clips, and their classes int64[N], equally many of each in random order."""
    labels = rng.permutation(np.arange(count) % len(LABELS))
    return log_mel(clips(labels, rng))[..., None], labels


def augment(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What the network sees: each clip up to 3 dB louder or quieter."""
    return x / SCALE + rng.uniform(-0.125, 0.125, (len(x), 1, 1, 1)).astype(np.float32)


def classes(net: Sequence, x: np.ndarray) -> np.ndarray:
    parts = np.array_split(x, -(-len(x) // 100))
    return np.concatenate([net.forward(part / SCALE, training=False).argmax(1) for part in parts])


def main(folder: Path | None = None) -> None:
    here = Path(__file__).resolve().parent
    rng = np.random.default_rng(SEED)
    fit, test = sources(folder)
    fit_x, fit_y = labelled(fit, FIT, rng)
    x, y = labelled(test, TEST, rng)
    print(f"{FIT + TEST} clips", flush=True)
    net = network(rng)
    train(net, fit_x, fit_y, rng, epochs=EPOCHS, batch=BATCH, augment=augment)
    print(f"test top-1 {(classes(net, x) == y).mean():.4f} on {TEST} clips")
    export = Export()
    export.node("Softmax", [net.export(export, "features")], axis=1)
    onnx.save(export.model("keywords", ("features", (1, FRAMES, BANDS)), ("scores", len(LABELS))), here / "keywords.onnx")
    for name, images, labels in (("test", x, y), ("calib", fit_x[:CALIBRATION], fit_y[:CALIBRATION])):
        np.savez_compressed(here / f"keywords_{name}.npz", x=np.moveaxis(images, 3, 1), y=labels)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
