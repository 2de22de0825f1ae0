# SPDX-License-Identifier: Apache-2.0
"""edgekit tune, and convert with its table: what comes out, not how long anything took."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from edgekit.cli.tune import _result as result_text
from edgekit.commands.tune import Tuned
from edgekit.format import choices
from edgekit.format.reader import read
from edgekit.kernel_sets import listed_kernels
from edgekit.program import Choice
from edgekit.runtime import kernels
from edgekit.runtime.model import Model
from edgekit.tuning import Layer, Table
from edgekit.tuning.local import processor_name
from edgekit.tuning.table import layer_name

KINDS = {kernel.name: kernel.kind for kernel in listed_kernels()}


@pytest.fixture(scope="module")
def table(converted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table in which the scalar kernels of this processor are always faster."""
    path = tmp_path_factory.mktemp("table") / "net.tuned.json"
    program = read(converted)
    layers = {}
    for row in Model(converted).profile(runs=1):
        if row.kernel in KINDS and row.kernel != (scalar := f"{KINDS[row.kernel]}_scalar"):
            name = layer_name(program, program.ops[row.op])
            layers[name] = Layer(name, row.kernel, scalar, {row.kernel: 2.0, scalar: 1.0})
    Table(processor_name(), tuple(kernels.available()), tuple(layers.values())).write(path)
    return path


def test_tune(edgekit, converted: Path, tmp_path: Path) -> None:
    model = shutil.copy(converted, tmp_path / "net.ekm")
    result = edgekit("tune", model, "--seconds", "0.01", "--apply", tmp_path / "tuned.ekm", "--json").json
    assert result["table"] == str(tmp_path / "net.tuned.json")
    assert result["kernels"] == kernels.available()
    table = Table.read(result["table"])
    assert table.processor == result["processor"] == processor_name()
    program = read(model)
    assert table.missing(program) == [op for op in program.ops if op.opcode.name == "RESHAPE"]
    assert [layer["layer"] for layer in result["layers"]] == [layer.layer for layer in table.layers]
    assert sum(layer["count"] for layer in result["layers"]) == len(program.ops) - len(table.missing(program))
    assert all(layer["default"] in layer["us"] and layer["tuned"] in layer["us"] for layer in result["layers"])
    assert result["default_us"] > 0
    assert (result["tuned_us"] is None) == all(layer["default"] == layer["tuned"] for layer in result["layers"])
    assert result["kept"] == (result["ratio"] < 1)
    tuned = read(tmp_path / "tuned.ekm")
    assert tuned.choices == table.choices(program)
    assert bool(tuned.choices) == result["kept"]
    assert choices.replace((tmp_path / "tuned.ekm").read_bytes(), ()) == converted.read_bytes()


def test_tune_shows_a_table_and_a_result(edgekit, converted: Path, tmp_path: Path) -> None:
    outcome = edgekit("tune", converted, "-o", tmp_path / "t.json", "--kernels", "scalar", "--seconds", "0.01")
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert lines[0].split() == ["layer", "count", "default", "us", "other", "kernels", "us", "tuned", "gain", "us"]
    assert any(line.startswith("conv2d 1x8x8x1 ") and "conv2d_scalar" in line for line in lines)
    result = next(line for line in lines if line.startswith("result"))
    assert "nothing to gain: the default kernels are the fastest or tie" in result  # there are no others
    assert Table.read(tmp_path / "t.json").kernels == ("scalar",)


@pytest.mark.parametrize(
    "ratio, kept, words", [(0.9, True, "10.0% less"), (0.9998, True, "under 0.1% less"), (1.01, False, "nothing to gain")]
)
def test_the_result_is_what_the_model_gains(ratio: float, kept: bool, words: str) -> None:
    tuned = Tuned(
        model=Path("net.ekm"), table=Path("net.tuned.json"), applied=None, processor="Z80", kernels=["scalar"], layers=[],
        gain_us=1.0, default_us=10.0, tuned_us=10.0 * ratio, ratio=ratio, kept=kept,
    )  # fmt: skip
    assert words in result_text(tuned)


def test_an_onnx_is_tuned_too_and_a_table_is_added_to(edgekit, digits: Path, table: Path, tmp_path: Path) -> None:
    path = shutil.copy(table, tmp_path / "both.json")
    extra = Layer("lut 1x3 -> 1x3", "lut_scalar", "lut_scalar", {"lut_scalar": 1.0})
    known = Table.read(path)
    Table(known.processor, known.kernels, (*known.layers, extra)).write(path)
    assert edgekit("tune", digits / "digits.onnx", "-o", path, "--seconds", "0.01").code == 0
    merged = Table.read(path)
    assert extra in merged.layers
    assert not any(layer in merged.layers for layer in known.layers)  # all were measured anew


def test_convert_takes_the_choices_of_a_table(edgekit, digits: Path, converted: Path, table: Path, tmp_path: Path) -> None:
    tuned = tmp_path / "tuned.ekm"
    result = edgekit("convert", digits / "digits.onnx", "-o", tuned, "--calibration", digits / "digits_calib.npz",
                     "--input-layout", "nhwc", "--input-std", "16", "--tuned", table, "--json").json  # fmt: skip
    assert result["warnings"] == []
    assert read(tuned).choices == Table.read(table).choices(read(converted))
    assert choices.replace(tuned.read_bytes(), ()) == converted.read_bytes()
    x = np.load(digits / "digits_test.npz")["x"][:20]
    for name in kernels.available():
        np.testing.assert_array_equal(
            Model(tuned).run(x, kernels=name)["logits"], Model(converted).run(x, kernels=name)["logits"]
        )
    verified = edgekit("verify", tuned, "--samples", "5", "--backends", "reference,c-scalar,c-" + kernels.best(), "--json")
    assert verified.code == 0


def test_the_profile_says_why(edgekit, converted: Path, tmp_path: Path) -> None:
    rows = edgekit("bench", converted, "--profile", "--seconds", "0.01", "--json").json["profile"]
    assert {row["why"] for row in rows} == {"default"}
    number = next(i for i, row in enumerate(rows) if row["kernel"] in KINDS and "scalar" not in row["kernel"])
    scalar = f"{KINDS[rows[number]['kernel']]}_scalar"
    tuned = tmp_path / "tuned.ekm"
    tuned.write_bytes(choices.replace(converted.read_bytes(), [Choice(number, rows[number]["kernel"], scalar)]))
    shown = edgekit("bench", tuned, "--profile", "--seconds", "0.01", "--json").json["profile"]
    assert [(row["kernel"], row["why"]) for row in shown if row["why"] != "default"] == [(scalar, "tuned")]
    assert " tuned " in edgekit("bench", tuned, "--profile", "--seconds", "0.01").out


def test_layers_that_are_not_in_the_table_keep_the_default(edgekit, digits: Path, table: Path, tmp_path: Path) -> None:
    known = Table.read(table)
    some = tmp_path / "some.json"
    Table(known.processor, known.kernels, tuple(x for x in known.layers if not x.layer.startswith("conv2d"))).write(some)
    outcome = edgekit("convert", digits / "digits.onnx", "-o", tmp_path / "net.ekm", "--tuned", some, "--json")
    assert outcome.code == 0
    assert any("keep the default kernels" in warning for warning in outcome.json["warnings"])
    assert read(tmp_path / "net.ekm").choices


def refused(outcome, *fragments: str) -> None:
    assert (outcome.code, outcome.out) == (2, "")
    (line,) = [line for line in outcome.err.splitlines() if not line.startswith("edgekit: warning:")]
    assert "internal error" not in line
    for fragment in fragments:
        assert fragment in line


def test_errors_are_one_line(edgekit, digits: Path, converted: Path, table: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    other = json.loads(table.read_text())
    (tmp_path / "processor.json").write_text(json.dumps({**other, "processor": "Z80"}))
    (tmp_path / "version.json").write_text(json.dumps({**other, "edgekit": "0.0.1"}))
    layers = [{**layer, "layer": f"{layer['layer']} of another network"} for layer in other["layers"]]
    (tmp_path / "layers.json").write_text(json.dumps({**other, "layers": layers}))
    onnx = digits / "digits.onnx"
    convert = ("convert", onnx, "-o", tmp_path / "net.ekm", "--tuned")
    refused(edgekit(*convert, tmp_path / "absent.json"), "absent.json", "no such file")
    refused(edgekit(*convert, tmp_path / "bad.json"), "bad.json", "not a table of `edgekit tune`")
    refused(edgekit(*convert, tmp_path / "version.json"), "version.json", "edgekit 0.0.1")
    refused(edgekit(*convert, tmp_path / "layers.json"), "layers.json", "none of the layers of this model")
    assert not (tmp_path / "net.ekm").exists()
    quick = ("--seconds", "0.01")
    refused(edgekit("tune", converted, "-o", tmp_path / "processor.json", *quick), "another processor: Z80", "-o")
    refused(edgekit("tune", converted, "-o", tmp_path / "bad.json", *quick), "bad.json")
    refused(edgekit("tune", converted, "-o", tmp_path / "table.txt", *quick), "written as .json")
    refused(edgekit("tune", converted, "-o", tmp_path / "no" / "t.json", *quick), "does not exist")
    for source in (tmp_path / "net.tflite", "", ".", "/"):
        refused(edgekit("tune", source, *quick), "not a .ekm or .onnx")
    refused(edgekit("tune", tmp_path / "absent.ekm", *quick), "absent.ekm")
    refused(edgekit("tune", converted, "--apply", converted, "-o", tmp_path / "t.json", *quick), "would overwrite the input")
    refused(edgekit("tune", onnx, "--apply", tmp_path / "x.ekm", "-o", tmp_path / "t.json", *quick), "convert --tuned")
    refused(edgekit("tune", converted, "--kernels", "mmx", "-o", tmp_path / "t.json", *quick), "mmx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.json", "layers.json", "processor.json", "version.json"]
