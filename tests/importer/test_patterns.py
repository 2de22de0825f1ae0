# SPDX-License-Identifier: Apache-2.0
"""Layer normalization spelled in nodes is found in every spelling, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgekit.errors import ModelError
from edgekit.importer import ImportedModel
from tests.importer.tapped import compare, import_model, model, ops

C = 6


class Spelling:
    """Nodes of one layer normalization of x[2, 3, C]; every part can be written in another way."""

    def __init__(self, opset: int = 13) -> None:
        rng = np.random.default_rng(5)
        self.opset, self.nodes = opset, []
        self.constants: dict[str, Any] = {
            "two": np.float32(2), "epsilon": np.float32(1e-3), "axes": np.array([-1]), "minus_half": np.float32(-0.5),
            "gamma": rng.normal(1, 0.3, C), "beta": rng.normal(0, 0.3, C),
        }  # fmt: skip

    def op(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        output = output or f"{kind}_{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def mean(self, x: str, axes: tuple[int, ...] = (-1,), **attributes: Any) -> str:
        if self.opset >= 18:
            return self.op("ReduceMean", x, "axes", **attributes)
        return self.op("ReduceMean", x, axes=list(axes), **attributes)

    def square(self, x: str) -> str:
        return self.op("Pow", x, "two")

    def deviation(self, x: str) -> str:
        return self.op("Sqrt", self.op("Add", self.mean(self.square(x)), "epsilon"))

    def divide(self, x: str) -> str:
        return self.op("Div", x, self.deviation(x))

    def affine(self, x: str, output: str = "y") -> str:
        return self.op("Add", self.op("Mul", x, "gamma"), "beta", output=output)

    def build(self) -> None:
        self.affine(self.divide(self.op("Sub", "x", self.mean("x"))))

    def imported(self, folder: Path, *outputs: str) -> ImportedModel:
        self.build()
        proto = model(self.nodes, {"x": [2, 3, C]}, outputs or ("y",), self.constants, self.opset)
        return import_model(folder, proto)


class Multiplied(Spelling):
    def square(self, x: str) -> str:
        return self.op("Mul", x, x)


class Reciprocal(Spelling):
    def divide(self, x: str) -> str:
        return self.op("Mul", self.op("Reciprocal", self.deviation(x)), x)


class Power(Spelling):
    def divide(self, x: str) -> str:
        variance = self.op("Add", "epsilon", self.mean(self.square(x)))
        return self.op("Mul", x, self.op("Pow", variance, "minus_half"))


class Swapped(Spelling):
    def affine(self, x: str, output: str = "y") -> str:
        return self.op("Add", "beta", self.op("Mul", "gamma", x), output=output)


class Plain(Spelling):
    def affine(self, x: str, output: str = "y") -> str:
        return self.op("Identity", x, output=output)


class OnlyOffset(Spelling):
    def affine(self, x: str, output: str = "y") -> str:
        return self.op("Add", x, "beta", output=output)


class TwoDimensions(Spelling):
    def mean(self, x: str, axes: tuple[int, ...] = (-1,), **attributes: Any) -> str:
        return super().mean(x, (-2, -1), **attributes)


@pytest.mark.parametrize("kind", [Spelling, Multiplied, Reciprocal, Power, Swapped, Plain, OnlyOffset, TwoDimensions])
def test_found(tmp_path: Path, kind: Callable[[], Spelling]) -> None:
    imported = kind().imported(tmp_path)
    assert [op for op in ops(imported) if op != "Reshape"] == ["LayerNorm"]
    compare(imported, 3)


def test_axes_as_input(tmp_path: Path) -> None:
    imported = Spelling(opset=18).imported(tmp_path)
    assert ops(imported) == ["LayerNorm"]
    compare(imported, 3)


class OtherEpsilon(Spelling):
    """An epsilon per row: computed, but not what a layer normalization adds."""

    def __init__(self) -> None:
        super().__init__()
        self.constants["epsilon"] = np.full((2, 3, 1), 1e-3)


class OtherMean(Spelling):
    """The mean of something else."""

    def build(self) -> None:
        self.affine(self.divide(self.op("Sub", "x", self.mean(self.op("Abs", "x")))))


class OtherAxis(Spelling):
    def mean(self, x: str, axes: tuple[int, ...] = (-1,), **attributes: Any) -> str:
        return super().mean(x, (1,), **attributes)


class CubedDistance(Spelling):
    def __init__(self) -> None:
        super().__init__()
        self.constants["two"] = np.float32(3)


@pytest.mark.parametrize("kind", [OtherEpsilon, OtherMean, OtherAxis, CubedDistance])
def test_not_found(tmp_path: Path, kind: Callable[[], Spelling]) -> None:
    with pytest.raises(ModelError, match="divides two computed tensors"):
        kind().imported(tmp_path)


def test_a_part_that_is_needed_elsewhere_stays(tmp_path: Path) -> None:
    spelling = Reciprocal()
    spelling.op("Sub", "x", spelling.mean("x"), output="distance")
    spelling.affine(spelling.divide("distance"))
    spelling.build = lambda: None  # type: ignore[method-assign]
    imported = spelling.imported(tmp_path, "y", "distance")
    assert "LayerNorm" not in ops(imported)
    compare(imported, 3)


def test_gain_that_varies_over_rows_is_left_outside(tmp_path: Path) -> None:
    spelling = Spelling()
    spelling.constants["gamma"] = np.random.default_rng(1).normal(1, 0.3, (3, C))
    imported = spelling.imported(tmp_path)
    assert ops(imported) == ["LayerNorm", "Mul", "Add"]
    compare(imported, 3)


def test_a_text_in_place_of_a_number(tmp_path: Path) -> None:
    """Behind an operator that nobody knows, types are not checked."""
    spelling = Spelling()
    spelling.constants["epsilon"] = np.array("1e-3", dtype=object)
    unknown = spelling.op("Unknown", "x")
    spelling.affine(spelling.divide(spelling.op("Sub", unknown, spelling.mean(unknown))))
    spelling.build = lambda: None  # type: ignore[method-assign]
    with pytest.raises(ModelError, match=r"\(Unknown\): the operator is not supported"):
        spelling.imported(tmp_path)
