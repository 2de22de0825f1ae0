# SPDX-License-Identifier: Apache-2.0
"""Small ONNX models, and the comparison of an imported graph with ONNX Runtime on every tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgekit.importer import ImportedModel, load
from edgekit.importer.session import create_session
from edgekit.passes.evaluate import evaluate, outputs

FLOAT = onnx.TensorProto.FLOAT
Shape = Sequence[int | str | None]


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Shape | None],
    outputs: Sequence[str] = ("y",),
    constants: Mapping[str, np.ndarray] | None = None,
    opset: int = 17,
    ir_version: int = 8,
    elem_type: int = FLOAT,
    **more: Any,
) -> onnx.ModelProto:
    """A model whose outputs declare no shape; float64 constants become float32."""
    constants = {k: np.asarray(v) for k, v in (constants or {}).items()}
    tensors = [
        numpy_helper.from_array(v.astype(np.float32) if v.dtype == np.float64 else v, k)
        for k, v in constants.items()
    ]
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(n, elem_type, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(o, elem_type, None) for o in outputs],
        tensors,
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version, **more
    )


def node(op: str, inputs: Sequence[str], outputs: Sequence[str] = ("y",), **attrs: Any) -> onnx.NodeProto:
    return helper.make_node(op, list(inputs), list(outputs), name=f"the_{op.lower()}", **attrs)


def import_model(folder: Path, proto: onnx.ModelProto, **options: Any) -> ImportedModel:
    path = folder / "model.onnx"
    onnx.save(proto, path)
    return load(path, **options)


def feeds_of(
    imported: ImportedModel, seed: int, low: float = -3.0, high: float = 3.0
) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {p.name: rng.uniform(low, high, p.shape).astype(np.float32) for p in imported.graph.inputs}


def run_tapped(proto: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every tensor of the model, as ONNX Runtime computes it."""
    tapped = onnx.ModelProto()
    tapped.CopyFrom(proto)
    have = {o.name for o in proto.graph.output}
    names = [o for n in proto.graph.node for o in n.output if o and o not in have]
    tapped.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names)
    session = create_session(tapped)
    results = dict(zip((o.name for o in session.get_outputs()), session.run(None, dict(feeds)), strict=True))
    return {**results, **feeds}


def compare(imported: ImportedModel, seed: int, tolerance: float = 2e-6, **spread: float) -> None:
    """Every value of the graph that has a source holds the numbers of its source, and the outputs do.

    The tolerance is relative to the largest magnitude of the tensor, at least 1.
    """
    print(f"seed {seed}")
    feeds = feeds_of(imported, seed, **spread)
    expected = run_tapped(imported.model, feeds)
    values = evaluate(imported.graph, feeds)
    compared = 0
    for value in imported.graph.activations():
        if value.source is None:
            continue
        source = expected[value.source]
        if value.source_perm is not None:
            source = source.transpose(value.source_perm)
        assert_close(values[value.name], source.reshape(value.shape), tolerance, value.name)
        compared += 1
    assert compared
    for name, result in outputs(imported.graph, values).items():
        assert result.shape == expected[name].shape
        assert_close(result, expected[name], tolerance, name)


def assert_close(got: np.ndarray, expected: np.ndarray, tolerance: float, name: str) -> None:
    assert got.shape == expected.shape, name
    assert np.array_equal(np.isfinite(got), np.isfinite(expected)), name
    finite = np.isfinite(expected)
    largest = max(1.0, float(np.abs(expected[finite]).max(initial=0.0)))
    error = float(np.abs(got[finite] - expected[finite]).max(initial=0.0))
    assert error <= tolerance * largest, f"{name}: error {error}, largest magnitude {largest}"


def ops(imported: ImportedModel) -> list[str]:
    return [n.op for n in imported.graph.nodes]
