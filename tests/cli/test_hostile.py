# SPDX-License-Identifier: Apache-2.0
"""What hostile files and careless users do to the command line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import edgekit as edgekit_api
from edgekit.cli.output import printable
from edgekit.errors import DataError, InputError
from tests.cli.test_signals import as_from_a_terminal


def assert_refused(outcome, *fragments: str) -> None:
    assert outcome.code == 2, outcome
    assert outcome.out == ""
    assert outcome.err.startswith("edgekit: ")
    assert outcome.err.count("\n") == 1, outcome.err
    assert outcome.err[:-1].isprintable()
    assert "internal error" not in outcome.err
    for fragment in fragments:
        assert fragment in outcome.err


def tiny_net(path: Path, output: str = "y") -> Path:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    y = helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, 4])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], [output], name="relu")], "net", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def run_process(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgekit", *map(str, arguments)]
    return subprocess.run(command, text=True, timeout=120, check=False, stderr=subprocess.PIPE, **options)


@pytest.mark.parametrize("command", ["inspect", "verify", "run", "export"])
@pytest.mark.parametrize("kind", ["device", "pipe"])
def test_endless_files_are_refused(edgekit, tmp_path: Path, command: str, kind: str) -> None:
    model = Path("/dev/zero")
    if kind == "pipe":
        model = tmp_path / "net.ekm"
        os.mkfifo(model)
    elif not model.exists():
        pytest.skip("this system has no /dev/zero")
    options = {"run": ["--input", tmp_path / "x.npy"], "export": ["-o", tmp_path / "out.onnx"]}
    assert_refused(edgekit(command, model, *options.get(command, [])), str(model), "not a file")


def test_a_certificate_is_a_file_of_sane_content(edgekit, converted: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.cert.json"
    deep = "[" * 200_000
    for text in ("", "no JSON", "[]", deep, '{"edgekit_certificate": 1}', "\0\xff"):
        path.write_bytes(text.encode("latin-1"))
        assert_refused(edgekit("verify", converted, "--certificate", path), "net.cert.json")
    assert edgekit("verify", converted, "--samples", "2", "--write-certificate", path).code == 0
    good = json.loads(path.read_text())
    for damage in ({"samples": 0}, {"samples": -3}, {"inputs": {**good["inputs"], "seed": -1}}, {"inputs": {**good["inputs"], "seed": "x"}}):
        path.write_text(json.dumps({**good, **damage}))
        assert_refused(edgekit("verify", converted, "--certificate", path))


def test_options_out_of_range(edgekit, converted: Path, digits: Path, tmp_path: Path) -> None:
    assert_refused(edgekit("verify", converted, "--seed", "-1"), "--seed")
    assert_refused(edgekit("bench", converted, "--seconds", "inf"), "--seconds")
    convert = ["convert", digits / "digits.onnx", "-o", tmp_path / "out.ekm"]
    assert_refused(edgekit(*convert, "--method", "guess"), "guess")
    assert_refused(edgekit(*convert, "--input-mean", "1e39"), "--input-mean")
    assert_refused(edgekit(*convert, "--input-std", "1e-60"), "--input-std")
    assert_refused(edgekit(*convert, "--data", digits / "digits_test.npz"), "--prune")
    assert_refused(edgekit("convert", ""), "give the path of an .onnx file")
    assert_refused(edgekit("build", "--target", "host", "-o", converted / "inside"), "is not a folder")
    assert list(tmp_path.iterdir()) == []


def test_no_command_writes_over_its_input(edgekit, converted: Path, digits: Path, tmp_path: Path) -> None:
    model, ekm = tmp_path / "model.ekm", tmp_path / "net.ekm"
    shutil.copy(digits / "digits.onnx", model)
    shutil.copy(digits / "digits.onnx", tmp_path / "net.onnx")
    shutil.copy(converted, ekm)
    shutil.copy(digits / "digits_test.npz", tmp_path / "data.npz")
    (tmp_path / "link.onnx").symlink_to("net.onnx")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    attempts = [
        ["convert", model],
        ["prune", tmp_path / "net.onnx", "-o", tmp_path / "net.onnx", "--structured", "0.5"],
        ["prune", tmp_path / "net.onnx", "-o", tmp_path / "link.onnx", "--structured", "0.5"],
        ["run", ekm, "--input", tmp_path / "data.npz", "-o", tmp_path / "data.npz"],
        ["export", ekm, "-o", ekm],
        ["verify", ekm, "--write-certificate", ekm],
        ["verify", ekm, "--input", tmp_path / "data.npz", "--write-certificate", tmp_path / "data.npz"],
    ]
    for attempt in attempts:
        assert_refused(edgekit(*attempt), "would overwrite the input")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_failed_command_leaves_the_existing_output(edgekit, converted: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.npz"
    output.write_bytes(b"precious")
    np.save(tmp_path / "bad.npy", np.full((3, 1, 8, 8), np.nan, np.float32))
    assert_refused(edgekit("run", converted, "--input", tmp_path / "bad.npy", "-o", output), "NaN")
    assert output.read_bytes() == b"precious"
    assert_refused(edgekit("run", converted, "--input", tmp_path / "bad.npy", "-o", tmp_path), ".npz")
    assert_refused(edgekit("export", converted, "-o", tmp_path), "is a folder")


def test_terminal_sequences_never_reach_the_terminal(edgekit, converted: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("\x1b[2J\u202e\x07.npy", b"")
        archive.writestr("good.npy", (tmp_path / "x.npy").read_bytes() if np.save(tmp_path / "x.npy", np.zeros(3)) else b"")
    outcome = edgekit("run", converted, "--input", tmp_path / "data.npz")
    assert_refused(outcome)
    model = tiny_net(tmp_path / "net.onnx", "\x1b[31mred\u202e\nline [bold]")
    assert edgekit("convert", model).code == 0
    np.save(tmp_path / "in.npy", np.zeros((2, 4), np.float32))
    for arguments in (["inspect", model.with_suffix(".ekm"), "--tensors"], ["run", model.with_suffix(".ekm"), "--input", tmp_path / "in.npy"]):
        outcome = edgekit(*arguments)
        assert outcome.code == 0
        assert all(line.isprintable() for line in outcome.out.splitlines()), outcome.out
        assert r"\x1b[31mred\u202e line [bold]" in outcome.out


def test_printable() -> None:
    assert printable("plain ünïcode 名前 [x]") == "plain ünïcode 名前 [x]"
    assert printable("a\nb\tc") == "a b c"
    assert printable("\x1b[31m\x00\x7f\x9b\u2066\udcff") == r"\x1b[31m\x00\x7f\x9b\u2066\udcff"


def test_paths_are_text_not_markup(edgekit, converted: Path, digits: Path, tmp_path: Path) -> None:
    folder = tmp_path / "ordner [bold] mit ünïcode"
    folder.mkdir()
    model = folder / "[red] netz.ekm"
    shutil.copy(converted, model)
    outcome = edgekit("run", model, "--input", digits / "digits_test.npz", "--samples", "2", "-o", folder / "aus gabe.npz")
    assert outcome.code == 0
    assert "[red] netz.ekm" in outcome.out
    assert (folder / "aus gabe.npz").exists()


def test_outputs_may_have_any_name(edgekit, tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", np.ones((2, 4), np.float32))
    for name in ("file", "allow_pickle", "a/b", "../up"):
        model = tiny_net(tmp_path / "net.onnx", name)
        assert edgekit("convert", model).code == 0
        run = edgekit("run", model.with_suffix(".ekm"), "--input", tmp_path / "in.npy", "-o", tmp_path / "out.npz")
        assert run.code == 0
        with np.load(tmp_path / "out.npz") as arrays:
            assert arrays.files == [name]
            assert arrays[name].shape == (2, 4)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_full_stdout(converted: Path) -> None:
    with Path("/dev/full").open("w") as full:
        outcome = run_process("inspect", converted, "--json", stdout=full)
    assert outcome.returncode == 2
    assert outcome.stderr == "edgekit: standard output: No space left on device\n"


def test_closed_streams(converted: Path, tmp_path: Path) -> None:
    for redirections, code in (("<&- >&-", 0), ("<&- >&- 2>&-", 0), ("2>&-", 0)):
        command = f'exec "{sys.executable}" -m edgekit inspect "{converted}" --json {redirections}'
        outcome = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=120, check=False)
        assert (outcome.returncode, outcome.stderr) == (code, "")
    command = f'exec "{sys.executable}" -m edgekit inspect "{tmp_path}/none.ekm" --json 2>&-'
    outcome = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert (outcome.returncode, outcome.stdout) == (2, "")


def test_interrupts_are_quiet(converted: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "edgekit", "bench", str(converted), "--seconds", "600"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=as_from_a_terminal,
    )  # fmt: skip
    maps = Path(f"/proc/{process.pid}/maps")
    while process.poll() is None and str(converted.resolve()) not in maps.read_text():
        time.sleep(0.05)  # until the model is open, and the measurement about to begin
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.strip() in ("", "edgekit: interrupted")


def test_scalar_models_are_verified(edgekit, tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "net", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "net.onnx")
    np.save(tmp_path / "x.npy", np.array([-1, 2, 3], np.float32))
    assert edgekit("convert", tmp_path / "net.onnx", "--calibration", tmp_path / "x.npy").code == 0
    assert edgekit("verify", tmp_path / "net.ekm", "--backends", "reference,c-scalar,onnxruntime", "--input", tmp_path / "x.npy").code == 0
    assert edgekit("verify", tmp_path / "net.ekm", "--backends", "reference,c-scalar,onnxruntime", "--samples", "3").code == 0


def test_onnxruntime_keeps_quiet(edgekit, tmp_path: Path) -> None:
    """Its own log lines would stand before ours."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    huge = helper.make_tensor("s", TensorProto.INT64, [3], [2**20, 2**20, 4])
    graph = helper.make_graph([helper.make_node("Expand", ["x", "s"], ["y"])], "net", [x], [y], [huge])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", x=np.zeros((2, 4), np.float32), y=np.zeros(2))
    assert_refused(edgekit("bench", tmp_path / "net.onnx"), "onnxruntime")
    assert_refused(edgekit("eval", tmp_path / "net.onnx", "--data", tmp_path / "data.npz"), "ONNX Runtime")


def test_all_unsupported_nodes_stand_in_one_line(edgekit, tmp_path: Path) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", "y"))
    nodes = [helper.make_node("ArgMax", ["x"], ["b"], name="first"), helper.make_node("Erf2", ["x"], ["y"], name="second")]
    graph = helper.make_graph(nodes, "net", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "net.onnx")
    assert_refused(edgekit("convert", tmp_path / "net.onnx"), "2 nodes are not supported: node 'first'", "; node 'second'")


def test_weights_next_to_zero_are_calibrated(edgekit, tmp_path: Path) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", "y"))
    weights = helper.make_tensor("w", TensorProto.FLOAT, [4, 4], np.full(16, 1e-40, np.float32))
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "net", [x], [y], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "net.onnx")
    outcome = edgekit("convert", tmp_path / "net.onnx")
    assert "RuntimeWarning" not in outcome.err
    assert "internal error" not in outcome.err


def test_every_row_of_an_output_is_kept(edgekit, tmp_path: Path) -> None:
    """An output whose first dimension is no batch."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    z = helper.make_tensor_value_info("z", TensorProto.FLOAT, [3, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 4])
    graph = helper.make_graph([helper.make_node("Add", ["x", "z"], ["y"])], "net", [x, z], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", x=np.ones((2, 4), np.float32), z=np.arange(24, dtype=np.float32).reshape(6, 4))
    assert edgekit("convert", tmp_path / "net.onnx", "--calibration", tmp_path / "data.npz").code == 0
    assert edgekit("convert", tmp_path / "net.onnx").code == 0
    outcome = edgekit("run", tmp_path / "net.ekm", "--input", tmp_path / "data.npz", "--json")
    assert outcome.json["outputs"] == {"y": [6, 4]}
    assert edgekit("verify", tmp_path / "net.ekm", "--backends", "reference,c-scalar,onnxruntime", "--input", tmp_path / "data.npz").code == 0


def test_api_takes_single_texts_and_arrays(digits: Path, tmp_path: Path) -> None:
    options = {"calibration": digits / "digits_calib.npz", "input_layout": "nhwc", "samples": 8}
    first = edgekit_api.convert(digits / "digits.onnx", tmp_path / "a.ekm", input_std=np.array([16.0]), **options)
    second = edgekit_api.convert(digits / "digits.onnx", tmp_path / "b.ekm", input_std=16, input_shapes="image=1,1,8,8", **options)
    assert first.data == second.data
    assert edgekit_api.load(first.data).verify(samples=1, backends="reference").ok
    for wrong in ({"samples": 0}, {"input_shapes": {"image": "abcd"}}, {"method": None}):
        with pytest.raises(InputError):
            edgekit_api.convert(digits / "digits.onnx", tmp_path / "c.ekm", **{**options, **wrong})
    assert not (tmp_path / "c.ekm").exists()


API_OPTIONS = (
    {"samples": 1.5}, {"samples": "8"}, {"prune": "half"}, {"sparsity": "0.5"}, {"input_shapes": [3]}, {"input_mean": {"a": 1}},
    {"input_mean": [None]}, {"input_std": object()}, {"output": "out\0.ekm"},
)  # fmt: skip


@pytest.mark.parametrize("wrong", API_OPTIONS, ids=lambda wrong: next(iter(wrong)))
def test_api_options_of_wrong_type(digits: Path, tmp_path: Path, wrong: dict[str, object]) -> None:
    options = {"output": tmp_path / "out.ekm", "calibration": digits / "digits_calib.npz", "samples": 2, **wrong}
    with pytest.raises(InputError):
        edgekit_api.convert(digits / "digits.onnx", **options)
    assert list(tmp_path.iterdir()) == []


def test_api_data_of_wrong_type(converted: Path) -> None:
    model = edgekit_api.load(converted)
    for wrong in ([[1, 2], [3]], {"image": [[1], [2, 3]]}):
        with pytest.raises(DataError, match="is no array"):
            model.run(wrong)
    for wrong in ("data.npz", 3, [np.zeros((8, 8), np.uint8)], [None]):
        with pytest.raises(DataError, match="dict"):
            model.verify(wrong, backends="reference")
    for samples in (1.5, "3", 0):
        with pytest.raises(InputError, match="samples"):
            model.verify(samples=samples, backends="reference")


def test_nothing_to_prune_names_the_file(edgekit, tmp_path: Path) -> None:
    model = tiny_net(tmp_path / "net.onnx")
    assert_refused(edgekit("prune", model, "-o", tmp_path / "out.onnx", "--structured", "0.5"), "net.onnx", "no channel")
    assert not (tmp_path / "out.onnx").exists()


def test_a_certificate_covers_every_tensor(edgekit, converted: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.cert.json"
    assert edgekit("verify", converted, "--samples", "2", "--write-certificate", path).code == 0
    good = json.loads(path.read_text())
    for field in ("tensors", "outputs"):
        path.write_text(json.dumps({**good, field: {}}))
        assert_refused(edgekit("verify", converted, "--certificate", path), "says nothing of tensor")
    name = next(iter(good["tensors"]))
    path.write_text(json.dumps({**good, "tensors": {**good["tensors"], name: "\x1b[31m"}}))
    outcome = edgekit("verify", converted, "--certificate", path)
    assert outcome.code == 1
    assert "\x1b" not in outcome.out + outcome.err


def test_names_beyond_the_encoding(edgekit, converted: Path, digits: Path, tmp_path: Path) -> None:
    model = tmp_path / os.fsdecode(b"n\xff\xfez.ekm")
    try:
        shutil.copy(converted, model)
    except OSError:
        pytest.skip("this file system takes only text for names")
    for arguments in (["inspect"], ["run", "--input", digits / "digits_test.npz", "--samples", "2"], ["verify", "--samples", "2"]):
        assert edgekit(arguments[0], model, *arguments[1:], "--json").code == 0
    shutil.copy(converted, tmp_path / "ü.ekm")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    outcome = run_process("inspect", tmp_path / "ü.ekm", stdout=subprocess.PIPE, env=environment)
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert r"\xfc.ekm" in outcome.stdout


def test_endless_data_is_no_file(edgekit, converted: Path, tmp_path: Path) -> None:
    for name in ("x.npz", "x.npy", "net.onnx"):
        os.mkfifo(tmp_path / name)
    assert_refused(edgekit("run", converted, "--input", tmp_path / "x.npz"), "x.npz: not a file")
    assert_refused(edgekit("eval", converted, "--data", tmp_path / "x.npy"), "x.npy: not a file")
    assert_refused(edgekit("bench", tmp_path / "net.onnx"), "net.onnx: not a file")


def test_places_that_cannot_be_written_are_refused_before_the_work(edgekit, tmp_path: Path) -> None:
    """The model is missing, which would be said next."""
    (tmp_path / "loop.ekm").symlink_to(tmp_path / "loop.ekm")
    (tmp_path / "dangling.ekm").symlink_to(tmp_path / "nowhere" / "net.ekm")
    for name, why in (("loop.ekm", "cannot be written"), ("dangling.ekm", "nowhere does not exist"), ("x" * 300 + ".ekm", "too long")):
        assert_refused(edgekit("convert", tmp_path / "none.onnx", "-o", tmp_path / name), name, why)


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv, to be an ordinary user")
def test_a_read_only_folder(converted: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    command = [sys.executable, "-m", "edgekit", "export", str(converted), "-o", str(tmp_path / "net.onnx")]
    if os.geteuid() == 0:
        command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *command]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert outcome.stderr == f"edgekit: {tmp_path}/net.onnx: cannot be written: the folder {tmp_path} is read-only; give another place\n"


def test_a_folder_that_is_gone(converted: Path, tmp_path: Path) -> None:
    script = f'cd "{tmp_path}" && rmdir "{tmp_path}" && exec "{sys.executable}" -m edgekit export "{converted}" -o net.onnx'
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    outcome = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False, env=environment)
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert outcome.stderr == "edgekit: net.onnx: cannot be written: No such file or directory; give another place\n"


def test_a_certificate_is_not_checked_and_overwritten(edgekit, converted: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.cert.json"
    path.write_text("{}")
    assert_refused(edgekit("verify", converted, "--certificate", path, "--write-certificate", path), "would overwrite the input")
    assert path.read_text() == "{}"
