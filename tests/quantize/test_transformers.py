# SPDX-License-Identifier: Apache-2.0
"""Small vision transformers: what becomes of them, how near int8 stays to float, and the same bits everywhere."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from edgekit.format.writer import write
from edgekit.importer import load
from edgekit.plan import plan
from edgekit.program import Program
from edgekit.quantize import quantize_model
from edgekit.reference import run
from edgekit.verify import verify
from tests.backends import not_emulated
from tests.passes.nets import Net

IMAGE, PATCH, WIDTH, HEADS, LAYERS, CLASSES = 32, 8, 32, 2, 2, 10
TOKENS = (IMAGE // PATCH) ** 2 + 1
DEPTH = WIDTH // HEADS


class Transformer(Net):
    """A vision transformer with a class token; `spelled` in the operators of opset 13."""

    def __init__(self, rng: np.random.Generator, spelled: bool) -> None:
        super().__init__(rng, opset=13 if spelled else 20)
        self.spelled = spelled

    def linear(self, x: str, out: int) -> str:
        depth = self.shapes[x][-1]
        product = self.op("MatMul", x, self.random(depth, out, scale=depth**-0.5))
        return self.op("Add", product, self.random(out, scale=0.1))

    def layer_norm(self, x: str) -> str:
        gamma, beta = self.random(WIDTH, scale=0.1, offset=1.0), self.random(WIDTH, scale=0.1)
        if not self.spelled:
            return self.op("LayerNormalization", x, gamma, beta, axis=-1, epsilon=1e-6)
        distance = self.op("Sub", x, self.op("ReduceMean", x, axes=[-1]))
        variance = self.op("ReduceMean", self.op("Pow", distance, self.constant(2.0)), axes=[-1])
        deviation = self.op("Sqrt", self.op("Add", variance, self.constant(1e-6)))
        return self.op("Add", self.op("Mul", self.op("Div", distance, deviation), gamma), beta)

    def gelu(self, x: str) -> str:
        if not self.spelled:
            return self.op("Gelu", x)
        error = self.op("Erf", self.op("Div", x, self.constant(2**0.5)))
        return self.op("Mul", self.op("Mul", x, self.op("Add", error, self.constant(1.0))), self.constant(0.5))

    def heads(self, x: str) -> list[str]:
        """Queries, keys and values [1, heads, tokens, depth] from one dense layer."""
        x = self.linear(x, 3 * WIDTH)
        if not self.spelled:
            shape = self.constant([1, TOKENS, HEADS, DEPTH], np.int64)
            parts = self.op("Split", x, outputs=3, axis=-1, num_outputs=3)
            return [self.op("Transpose", self.op("Reshape", part, shape), perm=[0, 2, 1, 3]) for part in parts]
        x = self.op("Reshape", x, self.constant([1, TOKENS, 3, HEADS, DEPTH], np.int64))
        x = self.op("Transpose", x, perm=[2, 0, 3, 1, 4])
        return [self.op("Gather", x, self.constant(i, np.int64), axis=0) for i in range(3)]

    def attention(self, x: str) -> str:
        q, k, v = self.heads(x)
        scores = self.op("MatMul", q, self.op("Transpose", k, perm=[0, 1, 3, 2]))
        weights = self.op("Softmax", self.op("Mul", scores, self.constant(DEPTH**-0.5)), axis=-1)
        mixed = self.op("Transpose", self.op("MatMul", weights, v), perm=[0, 2, 1, 3])
        return self.linear(self.op("Reshape", mixed, self.constant([1, TOKENS, WIDTH], np.int64)), WIDTH)

    def network(self) -> onnx.ModelProto:
        x = self.conv(self.input(1, 3, IMAGE, IMAGE), WIDTH, kernel=PATCH, stride=PATCH, pads=[0] * 4)
        x = self.op("Reshape", x, self.constant([1, WIDTH, TOKENS - 1], np.int64))
        x = self.op("Concat", self.random(1, 1, WIDTH), self.op("Transpose", x, perm=[0, 2, 1]), axis=1)
        x = self.op("Add", x, self.random(1, TOKENS, WIDTH, scale=0.3))
        for _ in range(LAYERS):
            x = self.op("Add", x, self.attention(self.layer_norm(x)))
            hidden = self.gelu(self.linear(self.layer_norm(x), 4 * WIDTH))
            x = self.op("Add", x, self.linear(hidden, WIDTH))
        token = self.op("Gather", self.layer_norm(x), self.constant(0, np.int64), axis=1)
        return self.model(self.linear(token, CLASSES))


@pytest.fixture(scope="module", params=[False, True], ids=["operators", "spelled"])
def converted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Program, np.ndarray, np.ndarray]:
    """The program, images and the float outputs on them."""
    folder: Path = tmp_path_factory.mktemp("transformer")
    rng = np.random.default_rng(7)
    model = Transformer(rng, request.param).network()
    onnx.save(model, folder / "net.onnx")
    images = rng.normal(0, 1, (32, 3, IMAGE, IMAGE)).astype(np.float32)
    np.save(folder / "images.npy", images)
    program = quantize_model(load(folder / "net.onnx"), folder / "images.npy")
    session = onnxruntime.InferenceSession(folder / "net.onnx")
    expected = np.concatenate([session.run(None, {"input0": image[None]})[0] for image in images])
    return program, images, expected


def test_operators(converted: tuple[Program, np.ndarray, np.ndarray]) -> None:
    """One operator for each that the paper has: nothing is spelled out, scaled or cut on its own."""
    program, _, _ = converted
    found = Counter(op.opcode.name for op in program.ops)
    moved = {"RESHAPE": found.pop("RESHAPE"), "TRANSPOSE": found.pop("TRANSPOSE")}
    assert found == {
        "QUANTIZE": 1, "CONV2D": 1, "CONCAT": 1, "ADD": 1 + 2 * LAYERS, "LAYER_NORM": 1 + 2 * LAYERS,
        "DENSE": 6 * LAYERS + 1, "MATMUL_TRANSPOSED": LAYERS, "SOFTMAX": LAYERS, "MATMUL": LAYERS, "LUT": LAYERS,
        "SLICE": 1, "DEQUANTIZE": 1,
    }  # fmt: skip
    assert moved["TRANSPOSE"] == 4 * LAYERS


def test_accuracy(converted: tuple[Program, np.ndarray, np.ndarray]) -> None:
    program, images, expected = converted
    got = np.concatenate([run(program, {"input0": image[None]})[program.outputs[0]] for image in images])
    noise = ((got - expected) ** 2).mean()
    assert 10 * np.log10((expected**2).mean() / noise) > 20


def test_same_bits(converted: tuple[Program, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    program, images, _ = converted
    path = tmp_path / "net.ekm"
    samples = [{"input0": image[None]} for image in images[:4]]
    plan(program)
    write(program, path)
    report = verify(path, samples, backends=not_emulated(path))
    assert report.ok, report.problems()
    assert {b.name for b in report.backends} >= {"reference", "c-scalar", "onnxruntime"}
    assert len({backend.digest for backend in report.backends}) == 1
