# SPDX-License-Identifier: Apache-2.0
"""The metrics of `edgekit eval` against their definitions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.metrics import roc_auc_score

from edgekit.commands.eval import area_under_curve


def test_area_under_curve(rng: np.random.Generator) -> None:
    for levels in (2, 5, 1000):  # few levels make many equal scores
        scores = rng.integers(0, levels, 300) / levels
        labels = rng.integers(0, 2, 300)
        assert area_under_curve(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def dense(path: Path, weights: np.ndarray) -> Path:
    """A model y = x @ weights over [1, len(weights)]."""
    rows, columns = weights.shape
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["y"])],
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, rows])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, columns])],
        [numpy_helper.from_array(weights.astype(np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)
    return path


FLIPPED = 5e-4
"""Of an area of some 150 scores, for the rare two that another order of float additions exchanges."""


def test_auc_takes_the_second_output(edgekit, tmp_path: Path, rng: np.random.Generator) -> None:
    weights = rng.standard_normal((6, 2))
    model = dense(tmp_path / "two.onnx", weights)
    x = rng.standard_normal((200, 6)).astype(np.float32)
    y = (x @ weights[:, 1] + rng.standard_normal(200) > 0).astype(np.int64)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    edgekit("convert", model, "-o", tmp_path / "two.ekm", "--calibration", tmp_path / "data.npz")
    expected = roc_auc_score(y, x @ weights[:, 1].astype(np.float32))
    for file, tolerance in ((model, FLIPPED), (tmp_path / "two.ekm", 0.01)):
        result = edgekit("eval", file, "--data", tmp_path / "data.npz", "--metric", "auc", "--json").json
        assert result["value"] == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("raw", [False, True], ids=["float", "raw"])
def test_auc_of_a_reconstruction(edgekit, tmp_path: Path, rng: np.random.Generator, raw: bool) -> None:
    """Input and output have one shape: the score is their mean squared difference."""
    model = dense(tmp_path / "auto.onnx", 0.5 * np.eye(8))
    if raw:
        x = rng.integers(-128, 128, (150, 8)).astype(np.int8)
        options = ["--input-mean", "3", "--input-std", "20"]
        seen = (x.astype(np.float32) - np.float32(3)) / np.float32(20)
    else:
        x = seen = rng.standard_normal((150, 8)).astype(np.float32)
        options = []
    y = rng.integers(0, 2, 150)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    edgekit("convert", model, "-o", tmp_path / "auto.ekm", "--calibration", tmp_path / "data.npz", *options)
    expected = roc_auc_score(y, ((0.5 * seen) ** 2).mean(axis=1))
    floating = edgekit("eval", model, "--data", tmp_path / "data.npz", "--metric", "auc", "--json", *options).json
    assert floating["value"] == pytest.approx(expected, abs=FLIPPED)
    quantized = edgekit("eval", tmp_path / "auto.ekm", "--data", tmp_path / "data.npz", "--metric", "auc", "--json").json
    assert quantized["value"] == pytest.approx(expected, abs=0.02)

    np.savez(tmp_path / "unlabelled.npz", x=x)
    for name in ("unlabelled.npz", "data.npz"):  # labels that are classes are no target
        mse = edgekit("eval", tmp_path / "auto.ekm", "--data", tmp_path / name, "--metric", "mse", "--json").json
        assert mse["value"] == pytest.approx(((0.5 * seen) ** 2).mean(), rel=0.03)
