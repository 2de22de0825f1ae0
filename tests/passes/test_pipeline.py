# SPDX-License-Identifier: Apache-2.0
"""The whole pipeline: it keeps values, sources and statistics, and reaches its targets."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekit.importer import load
from edgekit.passes import evaluate, optimize, pipeline
from edgekit.passes.edit import Editor
from tests.passes import nets

MODELS = ("ic01_resnet8", "vww01_mobilenetv1_025", "kws01_dscnn", "ad01_autoencoder", "fashion_dscnn")


def assert_pipeline_is_right(path: Path, rng: np.random.Generator) -> None:
    """Outputs stay; every value that claims to be an ONNX tensor is that tensor in ONNX Runtime."""
    imported = load(path)
    inputs = nets.random_inputs(imported.model, rng)
    expected = nets.run_onnx(nets.tapped(imported.model), inputs)
    optimize(imported.graph)
    values = evaluate.evaluate(imported.graph, inputs, np.float64)
    expected.update(inputs)
    for port in imported.graph.outputs:
        assert values[port.value].shape == port.shape
        np.testing.assert_allclose(values[port.value], expected[port.name], rtol=2e-3, atol=2e-4, err_msg=port.name)
    for value in imported.graph.activations():
        if value.source is not None:
            there = expected[value.source]
            here = there if value.source_perm is None else there.transpose(value.source_perm)
            np.testing.assert_allclose(
                values[value.name], here.reshape(value.shape), rtol=2e-3, atol=2e-4, err_msg=value.name
            )
    assert set(imported.graph.batch_norm_stats) <= set(imported.graph.values)


@pytest.mark.parametrize("round_", range(40))
def test_random_nets_keep_their_values(round_, rng, tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(nets.random_net(rng), path)
    assert_pipeline_is_right(path, rng)


@pytest.mark.parametrize("name", MODELS)
def test_reference_models_keep_their_values(name, shared):
    assert_pipeline_is_right(shared / "models" / f"{name}.onnx", np.random.default_rng(1))


@pytest.mark.parametrize("name", MODELS)
def test_reference_models_reach_the_targets(name, shared):
    graph = load(shared / "models" / f"{name}.onnx").graph
    optimize(graph)
    transposes = [n for n in graph.nodes if n.op == "Transpose"]
    at_input = name.startswith(("ic01", "vww01"))
    assert len(transposes) == at_input and all(n.inputs[0] == graph.inputs[0].value for n in transposes)
    counts = Counter(n.op for n in graph.nodes)
    assert counts["Unary"] == counts["Mul"] == 0
    assert counts["Add"] == {"ic01_resnet8": 3, "fashion_dscnn": 4}.get(name, 0)
    assert all(v.source is not None for v in graph.activations())


def test_statistics_of_batch_norms_follow_their_values(shared):
    graph = load(shared / "models" / "fashion_dscnn.onnx").graph
    optimize(graph)
    convolutions = [n for n in graph.nodes if n.op in ("Conv", "DepthwiseConv")]
    assert len(convolutions) == 15
    for node in convolutions:
        mean, std = graph.batch_norm_stats[node.outputs[0]]
        assert mean.shape == std.shape == graph.values[node.outputs[0]].shape[-1:]


def test_optimizing_twice_changes_nothing(shared):
    graph = load(shared / "models" / "fashion_dscnn.onnx").graph
    optimize(graph)
    before = [(n.op, tuple(n.inputs), tuple(n.outputs)) for n in graph.nodes]
    optimize(graph)
    assert [(n.op, tuple(n.inputs), tuple(n.outputs)) for n in graph.nodes] == before


def test_passes_that_undo_each_other_are_named(shared, monkeypatch):
    graph = load(shared / "models" / "ad01_autoencoder.onnx").graph
    monkeypatch.setattr(pipeline, "_LIMIT", 3)

    def restless(edit: Editor) -> bool:
        return True

    with pytest.raises(AssertionError, match="restless"):
        pipeline.run_to_fixpoint(Editor(graph), [restless])
