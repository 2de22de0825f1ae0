# SPDX-License-Identifier: Apache-2.0
"""ONNX's own operator examples: inputs and outputs as the specification gives them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from edgekit.errors import ModelError
from edgekit.importer.registry import HANDLERS
from edgekit.passes.evaluate import evaluate, outputs
from tests.importer.tapped import assert_close, import_model

ALL_COMPUTED = frozenset(("Add", "Sub", "Mul", "Sum", "Mean", "Concat", "MatMul"))
"""Operators of whose examples every input is fed; of all others the first is, the rest is constant."""


def examples() -> Iterator[tuple[str, onnx.ModelProto, dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """name, model, inputs, outputs of every example in float32 whose operators have handlers."""
    node_cases = pytest.importorskip("onnx.backend.test.case.node")
    for case in node_cases.collect_testcases(None):
        used = {n.op_type for n in case.model.graph.node}
        types = {
            p.type.tensor_type.elem_type for p in (*case.model.graph.input[:1], *case.model.graph.output)
        }
        if not used <= set(HANDLERS) or types != {TensorProto.FLOAT} or not case.data_sets:
            continue
        feeds, expected = (
            dict(zip((p.name for p in ports), arrays, strict=True))
            for ports, arrays in zip(
                (case.model.graph.input, case.model.graph.output), case.data_sets[0], strict=True
            )
        )
        model = onnx.ModelProto()
        model.CopyFrom(case.model)
        if not used <= ALL_COMPUTED:
            for port in model.graph.input[1:]:
                model.graph.initializer.append(
                    numpy_helper.from_array(np.asarray(feeds[port.name]), port.name)
                )
        yield case.name, model, feeds, expected


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_examples_of_the_specification(tmp_path: Path) -> None:
    """Those that import compute what the specification says; the others are refused, not mistaken."""
    compared = 0
    for name, model, feeds, expected in examples():
        try:
            graph = import_model(tmp_path, model).graph
        except ModelError:
            continue
        values = evaluate(graph, {p.name: feeds[p.name] for p in graph.inputs})
        for port, result in outputs(graph, values).items():
            # Some examples are given with four decimals.
            assert_close(result, expected[port], 1e-4, f"{name}: {port}")
        compared += 1
    assert compared > 150
