# SPDX-License-Identifier: Apache-2.0
"""What adapters compute themselves; they are imported without their engines."""

from __future__ import annotations

import ast
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgekit.bench.adapters import litert, mnn, ncnn
from edgekit.bench.environments import ADAPTERS, PEERS


def layer(kind: str, name: str, blobs: str, params: dict[int, str], *pieces: np.ndarray) -> ncnn.Layer:
    """`blobs`: inputs > outputs."""
    bottoms, tops = (part.split() for part in blobs.split(">"))
    tagged = [tag for _, tag in ncnn.piece_sizes(ncnn.Layer(kind, name, bottoms, tops, params, [], []))]
    return ncnn.Layer(kind, name, bottoms, tops, params, [piece.astype(np.float32) for piece in pieces], tagged)


def network(rng: np.random.Generator) -> list[ncnn.Layer]:
    """Two convolutions and a depthwise one in a row, a branch, and a dense layer."""

    def weights(*shape: int) -> np.ndarray:
        return rng.normal(0, 1, int(np.prod(shape)))

    return [
        layer("Input", "in", "> a", {}),
        layer("Convolution", "first", "a > b", {0: "4", 1: "3", 5: "1", 6: "108"}, weights(108), weights(4)),
        layer("ConvolutionDepthWise", "second", "b > c", {0: "4", 1: "3", 5: "1", 6: "36", 7: "4"}, weights(36), weights(4)),
        layer("Split", "split", "c > d e", {}),
        layer("Convolution", "left", "d > f", {0: "4", 1: "1", 6: "16"}, weights(16)),
        layer("Convolution", "right", "e > g", {0: "4", 1: "1", 6: "16"}, weights(16)),
        layer("BinaryOp", "add", "f g > h", {0: "0"}),
        layer("InnerProduct", "dense", "h > i", {0: "3", 1: "1", 2: "12"}, weights(12), weights(3)),
        layer("Gemm", "gemm", "i > j", {2: "0", 3: "1", 5: "1", 6: "1", 8: "5", 9: "3", 10: "4"}, weights(15), weights(5)),
        layer("LayerNorm", "norm", "j > k", {0: "5", 2: "1"}, weights(5), weights(5)),
    ]


def test_an_ncnn_model_is_written_as_it_was_read(tmp_path: Path, rng: np.random.Generator) -> None:
    layers = network(rng)
    ncnn.write_model(layers, tmp_path / "a.param")
    read = ncnn.read_model(tmp_path / "a.param")
    assert [(each.line(), each.tagged) for each in read] == [(each.line(), each.tagged) for each in layers]
    for ours, theirs in zip(layers, read, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(ours.pieces, theirs.pieces, strict=True))


def test_an_ncnn_model_with_weights_of_unknown_layers(tmp_path: Path, rng: np.random.Generator) -> None:
    ncnn.write_model(network(rng), tmp_path / "a.param")
    with (tmp_path / "a.bin").open("ab") as file:
        file.write(bytes(8))
    with pytest.raises(ValueError, match="8 bytes of weights belong to no layer"):
        ncnn.read_model(tmp_path / "a.param")
    (tmp_path / "a.param").write_text((tmp_path / "a.param").read_text().replace("LayerNorm", "Deconvolution"))
    with pytest.raises(ValueError, match="Deconvolution"):
        ncnn.read_model(tmp_path / "a.param")


def test_ncnn_quantization(tmp_path: Path, rng: np.random.Generator) -> None:
    layers = network(rng)
    floats = {each.name: each.pieces[0].copy() for each in layers if each.pieces}
    ncnn.quantize(layers, {"a": 2.0, "b": 4.0, "d": 8.0, "e": 8.0, "h": 1.0})
    known = {each.name: each for each in layers}
    for name, rows in (("first", 4), ("second", 4), ("left", 4), ("dense", 3), ("gemm", 1)):
        int8, weights = known[name].pieces[0], floats[name].reshape(rows, -1)
        scales = known[name].pieces[-3 if name in ("first", "second") else -1 if name == "gemm" else -2]
        assert int8.dtype == np.int8
        assert np.abs(int8.reshape(rows, -1)).max(axis=1).tolist() == [127] * rows
        assert np.abs(int8.reshape(rows, -1) / scales[:, None] - weights).max() <= 0.5001 / scales.min()
    # both ends of a chain of convolutions, also through a split, hand over int8; an addition takes float
    assert [known[name].params[8] for name in ("first", "second", "left", "right")] == ["102", "101", "2", "2"]
    assert [float(known[name].pieces[-1][0]) for name in ("first", "second", "left")] == [127 / 4, 127 / 8, 127 / 8]
    assert known["dense"].params[8] == "2" and known["gemm"].params[18] == "2"
    ncnn.write_model(layers, tmp_path / "a.param")
    content = (tmp_path / "a.bin").read_bytes()
    assert content[:4] == ncnn.INT8_TAG.to_bytes(4, "little")
    assert content[4:112] == known["first"].pieces[0].tobytes()


def test_ncnn_rounds_half_away_from_zero() -> None:
    weights = np.array([[0.5, -0.5, 1.5, -2.5, 127.0, 0.49]], np.float32)
    assert ncnn.rounded(weights, np.ones(1, np.float32)).tolist() == [[1, -1, 2, -3, 127, 0]]
    assert ncnn.scales_of(np.zeros((2, 3), np.float32)).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("size", "window", "stride", "pads", "expected"),
    [
        (224, 3, 2, [0, 0, 1, 1], True),
        (224, 3, 2, [1, 1, 1, 1], False),
        (56, 3, 1, [1, 1, 1, 1], True),
        (224, 16, 16, [0, 0, 0, 0], True),
        (55, 1, 2, [0, 0, 0, 0], True),
    ],
)
def test_padding_of_tensorflow(size: int, window: int, stride: int, pads: list[int], expected: bool) -> None:
    x = SimpleNamespace(shape=(1, size, size, 3))
    assert litert.same(x, [window] * 2, [stride] * 2, pads) is expected


def test_samples_of_mnn(tmp_path: Path) -> None:
    mnn.write_samples({"x": np.arange(12, dtype=np.float32).reshape(2, 1, 6)}, tmp_path / "s")
    assert sorted(p.relative_to(tmp_path / "s").as_posix() for p in tmp_path.rglob("*.*")) == [
        "00000/input.json", "00000/x.txt", "00001/input.json", "00001/x.txt",
    ]  # fmt: skip
    assert np.loadtxt(tmp_path / "s" / "00001" / "x.txt").tolist() == [6, 7, 8, 9, 10, 11]


@pytest.mark.parametrize("path", sorted(ADAPTERS.glob("*.py")), ids=lambda path: path.stem)
def test_adapters_stand_alone(path: Path) -> None:
    """They run where neither edgekit nor, at first, the engine is: modules are imported inside functions."""
    if path.stem == "__init__":
        return
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    allowed = {"__future__", "collections", "dataclasses", "importlib", "json", "numpy", "pathlib", "shutil", "subprocess", "tempfile", "typing"}
    assert names <= allowed
    assert path.stem == "edgekit" or path.stem in PEERS
