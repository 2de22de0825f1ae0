# SPDX-License-Identifier: Apache-2.0
"""From an .onnx file to a `Graph`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from edgekit.graph import Graph
from edgekit.importer.build import blocking_nodes, build
from edgekit.importer.check import read
from edgekit.importer.ports import lower_opset, pin_inputs, to_float32
from edgekit.importer.session import FloatModel
from edgekit.importer.simplify import check_executes, simplify


@dataclass
class ImportedModel:
    """An ONNX model in both forms.

    Attributes:
        float_model: checked, simplified, all shapes static, float32; ONNX Runtime executes it, and its tensor
            names are those that `Value.source` refers to.
        graph: the same computation in canonical operators.
        warnings: what the user should know, one line each.
    """

    path: Path
    float_model: FloatModel
    graph: Graph
    warnings: list[str] = field(default_factory=list)

    @property
    def model(self) -> onnx.ModelProto:
        """`float_model` as one message, a copy."""
        return self.float_model.whole()


def load(
    path: str | os.PathLike[str], input_shapes: Mapping[str, Sequence[int]] | None = None
) -> ImportedModel:
    """Imports an ONNX model.

    Args:
        path: the .onnx file; external weights lie in its folder or below.
        input_shapes: input name -> shape, for inputs with symbolic dimensions.

    Raises:
        ModelError: the file is damaged or hostile, a shape stays open, or nodes are unsupported;
            all unsupported nodes are listed.
    """
    path = Path(path)
    warnings: list[str] = []
    model = read(path)
    lower_opset(path, model)
    to_float32(path, model, warnings)
    pin_inputs(path, model.graph, input_shapes or {}, warnings)
    model = simplify(path, model, blocking_nodes(model))
    float_model = FloatModel(model)
    del model  # the weights are held once
    graph = build(path, float_model)
    check_executes(path, float_model)
    return ImportedModel(path, float_model, graph, warnings)
