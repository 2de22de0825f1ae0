# SPDX-License-Identifier: Apache-2.0
"""Bad usage and bad input: exit code 2, one line on stderr that says what is wrong, nothing left behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgekit.sources import source_root


def assert_refused(outcome, *fragments: str) -> None:
    assert outcome.code == 2, outcome
    assert outcome.out == ""
    lines = [line for line in outcome.err.splitlines() if not line.startswith("edgekit: warning:")]
    assert len(lines) == 1, outcome.err
    assert lines[0].startswith("edgekit: ")
    assert "Traceback" not in outcome.err
    assert "internal error" not in outcome.err
    for fragment in fragments:
        assert fragment in lines[0]


USAGE = {
    "no such command": (["transmogrify"], "transmogrify"),
    "nearly a command": (["tunee"], "'tune', 'prune'? see edgekit --help"),
    "no such option": (["convert", "net.onnx", "--bitz", "8"], "--bitz"),
    "missing argument": (["convert"], "MODEL.onnx"),
    "missing required option": (["eval", "net.ekm"], "--data"),
    "option without a value": (["convert", "net.onnx", "-o"], "-o"),
    "no number": (["run", "net.ekm", "--input", "x.npy", "--threads", "many"], "--threads"),
    "no threads": (["run", "net.ekm", "--input", "x.npy", "--threads", "0"], "--threads"),
    "no threads to verify with": (["verify", "net.ekm", "--threads", "0-2"], "1 or more"),
    "no batch threads": (["run", "net.ekm", "--input", "x.npy", "--batch-threads", "0"], "--batch-threads"),
    "no stages": (["run", "net.ekm", "--input", "x.npy", "--pipeline", "0"], "--pipeline"),
    "share above one": (["convert", "net.onnx", "--prune", "1.5"], "--prune"),
    "program for no board": (["firmware", "net.ekm", "-o", "out"], "--target"),
    "library with a sample": (["firmware", "net.ekm", "-o", "out", "--as", "library", "--input", "x.npz"], "--input"),
}


@pytest.mark.parametrize("arguments, fragment", USAGE.values(), ids=list(USAGE))
def test_usage(edgekit, arguments: list[str], fragment: str) -> None:
    assert_refused(edgekit(*arguments), fragment)


CONVERT = {
    "bits": (["--bits", "5"], "--bits"),
    "io": (["--io", "int9"], "--io"),
    "io layout": (["--io-layout", "chw"], "--io-layout"),
    "target": (["--target", "abacus"], "abacus"),
    "method": (["--method", "guess"], "guess"),
    "input layout": (["--input-layout", "hwc"], "--input-layout"),
    "zero std": (["--input-std", "0"], "--input-std"),
    "mean is no number": (["--input-mean", "a,b"], "--input-mean"),
    "too many channels": (["--input-std", "1,2,3"], "--input-std"),
    "input shape": (["--input-shape", "image=1,-1,8"], "--input-shape"),
    "input shape of nothing": (["--input-shape", "picture=1,1,8,8"], "picture"),
    "calibration is missing": (["--calibration", "nowhere.npz"], "nowhere.npz"),
}


@pytest.mark.parametrize("arguments, fragment", CONVERT.values(), ids=list(CONVERT))
def test_convert_options(edgekit, digits: Path, tmp_path: Path, arguments: list[str], fragment: str) -> None:
    if "--calibration" not in arguments:
        arguments = [*arguments, "--calibration", str(digits / "digits_calib.npz")]
    outcome = edgekit("convert", digits / "digits.onnx", "-o", tmp_path / "out.ekm", *arguments)
    assert_refused(outcome, fragment)
    assert list(tmp_path.iterdir()) == []


def test_model_is_missing(edgekit, tmp_path: Path) -> None:
    assert_refused(edgekit("convert", tmp_path / "none.onnx"), "none.onnx")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a model", b"\x08\x07" * 50], ids=["empty", "text", "noise"])
def test_model_is_no_onnx(edgekit, tmp_path: Path, content: bytes) -> None:
    model = tmp_path / "net.onnx"
    model.write_bytes(content)
    assert_refused(edgekit("convert", model), "net.onnx")
    assert list(tmp_path.iterdir()) == [model]


def test_unsupported_operators_are_all_named(edgekit, tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])
    nodes = [helper.make_node("Mish", ["x"], ["a"], name="first"), helper.make_node("CumSum", ["a", "k"], ["y"], name="second")]
    axis = helper.make_tensor("k", TensorProto.INT64, [1], [1])
    graph = helper.make_graph(nodes, "net", [x], [y], [axis])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), tmp_path / "net.onnx")
    outcome = edgekit("convert", tmp_path / "net.onnx", "-o", tmp_path / "net.ekm")
    assert_refused(outcome, "second", "CumSum")
    assert not (tmp_path / "net.ekm").exists()


def test_output_folder_is_missing(edgekit, digits: Path, tmp_path: Path) -> None:
    outcome = edgekit("convert", digits / "digits.onnx", "-o", tmp_path / "no" / "out.ekm")
    assert_refused(outcome, "does not exist")


def test_output_has_another_suffix(edgekit, digits: Path, tmp_path: Path) -> None:
    assert_refused(edgekit("convert", digits / "digits.onnx", "-o", tmp_path / "out.bin"), ".ekm")


def test_full_disk(edgekit, converted: Path, digits: Path, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    for name in ("out.ekm", "out.npz", "out.onnx"):
        (tmp_path / name).symlink_to("/dev/full")
    calibration = ["--calibration", digits / "digits_calib.npz"]
    attempts = [
        ["convert", digits / "digits.onnx", "-o", tmp_path / "out.ekm", *calibration],
        ["run", converted, "--input", digits / "digits_test.npz", "--samples", "2", "-o", tmp_path / "out.npz"],
        ["export", converted, "-o", tmp_path / "out.onnx"],
    ]
    for attempt in attempts:
        assert_refused(edgekit(*attempt), "No space left")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.ekm", "out.npz", "out.onnx"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_output_is_not_writable(edgekit, digits: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert_refused(edgekit("convert", digits / "digits.onnx", "-o", tmp_path / "out.ekm"), "out.ekm")


DATA = {
    "missing": (None, "no such file"),
    "no archive": (b"not a zip", "data.npz"),
    "truncated": (b"PK\x03\x04" + bytes(60), "data.npz"),
}


@pytest.mark.parametrize("command", ["run", "eval", "verify"])
@pytest.mark.parametrize("content, fragment", DATA.values(), ids=list(DATA))
def test_damaged_data(edgekit, converted: Path, tmp_path: Path, command: str, content: bytes | None, fragment: str) -> None:
    data = tmp_path / "data.npz"
    if content is not None:
        data.write_bytes(content)
    option = "--data" if command == "eval" else "--input"
    assert_refused(edgekit(command, converted, option, data), fragment)


ARRAYS = {
    "wrong shape": ({"x": np.zeros((3, 9, 9), np.uint8), "y": np.zeros(3)}, "shape"),
    "wrong type": ({"x": np.zeros((3, 8, 8), np.int32), "y": np.zeros(3)}, "int32"),
    "no input": ({"z": np.zeros((3, 8, 8), np.uint8), "y": np.zeros(3)}, "'x'"),
    "no samples": ({"x": np.zeros((0, 8, 8), np.uint8), "y": np.zeros(0)}, "no samples"),
    "no labels": ({"x": np.zeros((3, 8, 8), np.uint8)}, "label"),
    "too few labels": ({"x": np.zeros((3, 8, 8), np.uint8), "y": np.zeros(2)}, "2 labels for 3 samples"),
    "label out of range": ({"x": np.zeros((3, 8, 8), np.uint8), "y": np.array([0, 1, 10])}, "10 classes"),
    "label no class": ({"x": np.zeros((3, 8, 8), np.uint8), "y": np.array([0, 1, 0.5])}, "class number"),
    "NaN": ({"x": np.full((3, 1, 8, 8), np.nan, np.float32), "y": np.zeros(3)}, "NaN"),
}


@pytest.mark.parametrize("arrays, fragment", ARRAYS.values(), ids=list(ARRAYS))
def test_eval_data(edgekit, converted: Path, tmp_path: Path, arrays: dict[str, np.ndarray], fragment: str) -> None:
    np.savez(tmp_path / "data.npz", **arrays)
    assert_refused(edgekit("eval", converted, "--data", tmp_path / "data.npz"), fragment)


@pytest.mark.parametrize("labels", [[0, 1, np.nan], [0, 1, -1], [0, 1, 1e300]], ids=["NaN", "negative", "huge"])
def test_labels_that_are_no_class(converted: Path, tmp_path: Path, labels: list[float]) -> None:
    """In a process of its own: Python's warnings would be lines on stderr, too."""
    np.savez(tmp_path / "data.npz", x=np.zeros((3, 8, 8), np.uint8), y=np.array(labels))
    command = [sys.executable, "-W", "always::RuntimeWarning", "-m", "edgekit", "eval", str(converted), "--data", str(tmp_path / "data.npz")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == f"edgekit: {tmp_path / 'data.npz'}: labels 'y' must be one class number per sample, 0 or more\n"
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize("names", ["", ",", " , "])
def test_no_backends(edgekit, converted: Path, names: str) -> None:
    assert_refused(edgekit("verify", converted, "--backends", names), "--backends", "there are reference")


def test_backends_with_spaces(edgekit, converted: Path) -> None:
    result = edgekit("verify", converted, "--samples", "1", "--backends", " reference, c-scalar", "--json").json
    assert [b["name"] for b in result["backends"]] == ["reference", "c-scalar"]
    assert_refused(edgekit("verify", converted, "--backends", "reference,"), "--backends ''")


def test_metrics(edgekit, converted: Path, digits: Path) -> None:
    data = ["--data", digits / "digits_test.npz"]
    assert_refused(edgekit("eval", converted, *data, "--metric", "vibes"), "vibes", "top1, auc, mse")
    assert_refused(edgekit("eval", converted, *data, "--metric", "auc"), "labels 0 and 1")


def test_kernels(edgekit, converted: Path, digits: Path) -> None:
    data = ["--input", digits / "digits_test.npz"]
    assert_refused(edgekit("run", converted, *data, "--kernels", "mmx"), "mmx", "scalar")
    assert_refused(edgekit("run", converted, *data, "--kernels", "cortexm_mve"), "not available on this processor")
    assert_refused(edgekit("verify", converted, "--backends", "c-mmx"), "mmx")


def test_suffixes(edgekit, digits: Path, converted: Path, tmp_path: Path) -> None:
    data = digits / "digits_test.npz"
    assert_refused(edgekit("eval", data, "--data", data), "not a .ekm or .onnx file")
    assert_refused(edgekit("run", converted, "--input", data, "-o", tmp_path / "out.txt"), ".npz")
    assert_refused(edgekit("bench", digits / "digits.onnx", "--profile"), "--profile")


@pytest.mark.parametrize("arguments", [["firmware", "--target", "cortex-m3", "-o", "out"], ["inspect"], ["verify"]])
def test_a_model_that_is_not_converted(edgekit, digits: Path, tmp_path: Path, arguments: list[str]) -> None:
    command, *options = (str(tmp_path / a) if a == "out" else a for a in arguments)
    path = digits / "digits.onnx"
    assert_refused(edgekit(command, path, *options), f"{path}: ", f"; convert it first: edgekit convert {path}")


def test_numbers_of_threads(edgekit, converted: Path, digits: Path) -> None:
    header = (source_root() / "csrc/include/edgekit/edgekit.h").read_text()
    (most,) = re.findall(r"#define EK_MAX_THREADS (\d+)u", header)
    data = ["--input", digits / "digits_test.npz"]
    for option in ("--threads", "--batch-threads"):
        assert_refused(edgekit("run", converted, *data, option, int(most) + 1), f"1 to {most}, not {int(most) + 1}")
        assert_refused(edgekit("run", converted, *data, option, 0), option)


def test_peers(edgekit, converted: Path, tmp_path: Path) -> None:
    assert_refused(edgekit("bench", converted, "--vs", "abacus"), "abacus")
    assert_refused(edgekit("bench", converted, "--vs", ""), "--vs '': names no engine; use onnxruntime")
    assert_refused(edgekit("bench", converted, "--vs", "litert"), "litert:FILE.tflite")
    assert_refused(edgekit("bench", converted, "--vs", f"onnxruntime:{tmp_path / 'none.onnx'}"), "none.onnx")


@pytest.mark.parametrize("command", ["run", "eval", "verify", "inspect", "export", "bench"])
def test_damaged_file(edgekit, converted: Path, digits: Path, tmp_path: Path, command: str) -> None:
    damaged = tmp_path / "damaged.ekm"
    content = bytearray(converted.read_bytes())
    content[len(content) // 2] ^= 4
    damaged.write_bytes(content)
    options = {
        "run": ["--input", digits / "digits_test.npz"],
        "eval": ["--data", digits / "digits_test.npz"],
        "export": ["-o", tmp_path / "out.onnx"],
    }
    assert_refused(edgekit(command, damaged, *options.get(command, [])), "damaged.ekm")
    assert list(tmp_path.iterdir()) == [damaged]


def test_compare_with_another_model(edgekit, converted: Path, digits: Path, tmp_path: Path) -> None:
    other = onnx.load(digits / "digits.onnx")
    for node in other.graph.node:
        node.output[:] = [name if name == "logits" else f"other_{name}" for name in node.output]
        node.input[:] = [f"other_{n}" if any(n in m.output or f"other_{n}" in m.output for m in other.graph.node) else n for n in node.input]
    onnx.save(other, tmp_path / "other.onnx")
    outcome = edgekit(
        "compare", tmp_path / "other.onnx", converted, "--input", digits / "digits_test.npz",
        "--input-layout", "nhwc", "--input-std", "16",
    )  # fmt: skip
    assert_refused(outcome, "another model")


def test_an_unexpected_failure_is_one_line_too(edgekit, converted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("edgekit.commands.inspect.inspect", fail)
    outcome = edgekit("inspect", converted)
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert "ZeroDivisionError: a defect" in outcome.err


def test_a_closed_pipe_is_no_error(converted: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "edgekit", "inspect", str(converted), "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.close()
    _, errors = process.communicate(timeout=60)
    assert errors == b""
    assert process.returncode == 0
