# SPDX-License-Identifier: Apache-2.0
"""Every command on the digits model: its JSON object, its table, its effect."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import edgekit as package
from edgekit.cli.app import COMMANDS
from edgekit.runtime import kernels


@pytest.fixture(scope="module")
def labelled(digits: Path) -> dict[str, np.ndarray]:
    return dict(np.load(digits / "digits_test.npz"))


def test_help_of_every_command_has_an_example(edgekit) -> None:
    assert set(COMMANDS) <= set(edgekit("--help").out.split())
    for name in COMMANDS:
        outcome = edgekit(name, "--help")
        assert outcome.code == 0
        assert f"Example: edgekit {name}" in " ".join(outcome.out.split())
        assert "--json" in outcome.out


def test_version(edgekit) -> None:
    assert edgekit("--version").out.strip() == package.__version__


def test_convert(edgekit, digits: Path, tmp_path: Path) -> None:
    output = tmp_path / "net.ekm"
    result = edgekit("convert", digits / "digits.onnx", "-o", output, "--calibration", digits / "digits_calib.npz",
                     "--input-layout", "nhwc", "--input-std", "16", "--json").json  # fmt: skip
    assert result["model"] == str(output)
    assert result["bytes"] == output.stat().st_size
    assert 6000 < result["weight_bytes"] < 7000
    assert result["arena_bytes"] == 3072
    assert result["macs"] == 129_856
    assert (result["ops"], result["bits"], result["warnings"]) == (14, 8, [])
    first = output.read_bytes()
    edgekit("convert", digits / "digits.onnx", "-o", output, "--calibration", digits / "digits_calib.npz",
            "--input-layout", "nhwc", "--input-std", "16")  # fmt: skip
    assert output.read_bytes() == first


def test_convert_without_data_warns(edgekit, digits: Path, tmp_path: Path) -> None:
    outcome = edgekit("convert", digits / "digits.onnx", "-o", tmp_path / "net.ekm", "--json")
    assert outcome.code == 0
    assert any("calibration" in warning for warning in outcome.json["warnings"])
    assert outcome.err.startswith("edgekit: warning: ")
    result = edgekit("eval", tmp_path / "net.ekm", "--data", digits / "digits_test.npz", "--input-layout", "nhwc",
                     "--input-std", "16", "--json").json  # fmt: skip
    assert result["value"] > 0.9


def test_convert_writes_beside_the_model_by_default(edgekit, digits: Path, tmp_path: Path) -> None:
    shutil.copy(digits / "digits.onnx", tmp_path)
    assert edgekit("convert", tmp_path / "digits.onnx", "--json").code == 0
    assert (tmp_path / "digits.ekm").is_file()


def test_strip_removes_inner_names(edgekit, digits: Path, converted: Path, tmp_path: Path) -> None:
    edgekit("convert", digits / "digits.onnx", "-o", tmp_path / "net.ekm", "--strip", "--calibration",
            digits / "digits_calib.npz", "--input-layout", "nhwc", "--input-std", "16")  # fmt: skip
    assert b"batchnormalization" not in (tmp_path / "net.ekm").read_bytes()
    assert b"batchnormalization" in converted.read_bytes()
    assert (tmp_path / "net.ekm").stat().st_size < converted.stat().st_size
    data = ["--data", digits / "digits_test.npz", "--json"]
    assert edgekit("eval", tmp_path / "net.ekm", *data).json == edgekit("eval", converted, *data).json


@pytest.mark.parametrize("target", ["host", "x86-64-v2", "x86-64-v3"])
def test_a_file_for_any_target_gives_the_same_bits(edgekit, digits: Path, converted: Path, tmp_path: Path, target: str) -> None:
    output = tmp_path / "net.ekm"
    result = edgekit("convert", digits / "digits.onnx", "-o", output, "--target", target, "--calibration",
                     digits / "digits_calib.npz", "--input-layout", "nhwc", "--input-std", "16", "--json").json  # fmt: skip
    assert result["target"] == target
    images = np.load(digits / "digits_test.npz")["x"][:50]
    expected = package.load(converted).run(images)["logits"]
    for name in kernels.available():
        np.testing.assert_array_equal(package.load(output).run(images, kernels=name)["logits"], expected)


def test_run(edgekit, converted: Path, digits: Path, tmp_path: Path, labelled: dict[str, np.ndarray]) -> None:
    outcome = edgekit("run", converted, "--input", digits / "digits_test.npz", "-o", tmp_path / "out.npz",
                      "--kernels", "scalar", "--threads", "2", "--json")  # fmt: skip
    assert outcome.json == {"outputs": {"logits": [500, 10]}, "kernels": "scalar"}
    logits = np.load(tmp_path / "out.npz")["logits"]
    assert (logits.argmax(axis=1) == labelled["y"]).mean() > 0.97
    np.testing.assert_array_equal(logits, package.load(converted).run(labelled["x"])["logits"])


def test_run_of_several_samples_at_a_time_gives_the_same_bits(
    edgekit, converted: Path, digits: Path, tmp_path: Path, labelled: dict[str, np.ndarray]
) -> None:
    expected = package.load(converted).run(labelled["x"])["logits"]
    for batch_threads, threads in ((1, 1), (2, 1), (3, 2), (8, 1)):
        outcome = edgekit("run", converted, "--input", digits / "digits_test.npz", "-o", tmp_path / "out.npz",
                          "--batch-threads", batch_threads, "--threads", threads)  # fmt: skip
        assert outcome.code == 0, outcome.err
        np.testing.assert_array_equal(np.load(tmp_path / "out.npz")["logits"], expected)


def test_run_in_a_pipeline_gives_the_same_bits(
    edgekit, converted: Path, digits: Path, tmp_path: Path, labelled: dict[str, np.ndarray]
) -> None:
    expected = package.load(converted).run(labelled["x"])["logits"]
    for stages in (1, 2, 3, 64):
        outcome = edgekit("run", converted, "--input", digits / "digits_test.npz", "-o", tmp_path / "out.npz",
                          "--pipeline", stages)  # fmt: skip
        assert outcome.code == 0, outcome.err
        np.testing.assert_array_equal(np.load(tmp_path / "out.npz")["logits"], expected)
    for option in ("--threads", "--batch-threads"):
        outcome = edgekit("run", converted, "--input", digits / "digits_test.npz", "--pipeline", 2, option, 2)
        assert outcome.code == 2
        assert "leave out --threads and --batch-threads" in outcome.err


def test_run_computes_samples_in_turn_where_state_is_kept(edgekit, root: Path, tmp_path: Path) -> None:
    model = tmp_path / "counter.ekm"
    shutil.copy(root / "tests" / "fuzz" / "corpus" / "valid" / "counter.ekm", model)
    (port,) = package.load(model).inputs
    np.save(tmp_path / "x.npy", np.zeros((3, *port.shape[1:]), port.dtype))
    assert edgekit("run", model, "--input", tmp_path / "x.npy").code == 0
    for option in ("--batch-threads", "--pipeline"):
        outcome = edgekit("run", model, "--input", tmp_path / "x.npy", option, "2")
        assert outcome.code == 2
        assert "keeps state" in outcome.err and option in outcome.err


def test_run_on_normalized_floats_gives_the_same_bits(edgekit, converted: Path, tmp_path: Path, labelled) -> None:
    np.save(tmp_path / "x.npy", labelled["x"][:30].transpose(0, 3, 1, 2).astype(np.float32) / np.float32(16))
    edgekit("run", converted, "--input", tmp_path / "x.npy", "-o", tmp_path / "out.npz")
    expected = package.load(converted).run(labelled["x"][:30])["logits"]
    np.testing.assert_array_equal(np.load(tmp_path / "out.npz")["logits"], expected)


def test_eval_is_within_half_a_point_of_float(edgekit, converted: Path, digits: Path) -> None:
    data = ["--data", digits / "digits_test.npz", "--json"]
    quantized = edgekit("eval", converted, *data).json
    floating = edgekit("eval", digits / "digits.onnx", *data, "--input-layout", "nhwc", "--input-std", "16").json
    assert quantized["metric"] == floating["metric"] == "top1"
    assert quantized["samples"] == floating["samples"] == 500
    assert floating["value"] >= 0.97
    assert abs(quantized["value"] - floating["value"]) <= 0.005


def test_mse_against_labels(edgekit, converted: Path, tmp_path: Path, labelled: dict[str, np.ndarray]) -> None:
    logits = package.load(converted).run(labelled["x"][:20])["logits"]
    np.savez(tmp_path / "data.npz", x=labelled["x"][:20], y=logits + np.float32(0.5))
    result = edgekit("eval", converted, "--data", tmp_path / "data.npz", "--metric", "mse", "--json").json
    assert result["value"] == pytest.approx(0.25, rel=1e-5)


def test_compare(edgekit, converted: Path, digits: Path) -> None:
    command = ["compare", digits / "digits.onnx", converted, "--input", digits / "digits_test.npz", "--json"]
    result = edgekit(*command).json
    assert edgekit(*command, "--input-layout", "nhwc", "--input-std", "16").json == result
    assert len(result["layers"]) >= 10
    assert all(layer["sqnr_db"] > 20 and layer["max_abs_error"] >= 0 for layer in result["layers"])
    assert (result["layers"][-1]["name"], result["layers"][-1]["op"]) == ("logits", "dense")
    assert result["output_sqnr_db"] > 20


def test_verify_and_certificate(edgekit, converted: Path, digits: Path, tmp_path: Path) -> None:
    certificate = tmp_path / "net.cert.json"
    expected = {"reference", "onnxruntime"} | {f"c-{name}" for name in kernels.available()}
    data = ["--input", digits / "digits_test.npz", "--samples", "100", "--backends", ",".join(sorted(expected))]
    result = edgekit("verify", converted, *data, "--write-certificate", certificate, "--json").json
    names = {backend["name"] for backend in result["backends"]}
    assert names == expected
    assert result["samples"] == 100
    assert all(b["mismatches"] == 0 and b["values"] > 500_000 and b["tensors"] == 13 for b in result["backends"])
    assert len({b["digest"] for b in result["backends"]}) == 1
    assert {s["name"] for s in result["skipped"]}.isdisjoint(names)

    assert edgekit("verify", converted, *data, "--certificate", certificate, "--json").code == 0
    content = json.loads(certificate.read_text())
    content["outputs"] = dict.fromkeys(content["outputs"], "0" * 64)
    certificate.write_text(json.dumps(content))
    outcome = edgekit("verify", converted, *data, "--certificate", certificate, "--backends", "c-scalar")
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert "certified" in outcome.err


def test_inspect(edgekit, converted: Path) -> None:
    result = edgekit("inspect", converted, "--json").json
    assert result["format_version"] == "1.0"
    assert result["bytes"] == converted.stat().st_size
    assert result["arena_bytes"] <= 1.05 * result["arena_lower_bound_bytes"] + 1024
    assert 0 < result["scratch_bytes"] <= 8192
    assert sum(op["macs"] for op in result["ops"]) == result["macs"] == 129_856
    assert {t["region"] for t in result["tensors"]} == {"io", "arena", "readonly"}
    table = edgekit("inspect", converted, "--tensors").out
    assert "depthwise_conv2d" in table
    assert "readonly" in table


def test_export(edgekit, converted: Path, tmp_path: Path, labelled: dict[str, np.ndarray]) -> None:
    output = tmp_path / "net.quant.onnx"
    result = edgekit("export", converted, "-o", output, "--json").json
    assert result["model"] == str(output)
    assert result["nonstandard_ops"] == []
    assert result["ops"]["QLinearConv"] >= 7
    onnx.checker.check_model(onnx.load(output), full_check=True)
    session = onnxruntime.InferenceSession(str(output))
    for image in labelled["x"][:20]:
        x = image.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(16)
        np.testing.assert_array_equal(session.run(None, {"image": x})[0], package.load(converted).run(x)["logits"])


def test_bench(edgekit, converted: Path) -> None:
    outcome = edgekit("bench", converted, "--vs", "onnxruntime", "--seconds", "0.05", "--profile", "--json")
    result = outcome.json
    assert [r["engine"] for r in result["results"]] == ["edgekit", "onnxruntime"]
    for row in result["results"]:
        assert 0 < row["min_us"] <= row["median_us"] <= row["p99_us"]
        assert row["load_us"] > 0
        assert row["first_run_us"] > 0
    assert result["gmacs_per_s"] == pytest.approx(129_856 / result["results"][0]["median_us"] / 1e3)
    assert sum(row["share"] for row in result["profile"]) == pytest.approx(1)
    assert {row["kernel"] for row in result["profile"]} >= {"conv2d_" + kernels.best()} or kernels.best() != "avx2"


def test_bench_of_a_float_model(edgekit, digits: Path) -> None:
    result = edgekit("bench", digits / "digits.onnx", "--seconds", "0.05", "--json").json
    assert [r["engine"] for r in result["results"]] == ["onnxruntime"]
    assert result["gmacs_per_s"] is None


def test_bench_against_litert(edgekit, converted: Path, shared: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
    peer = shared / "models" / "kws01_dscnn_int8.tflite"
    result = edgekit("bench", converted, "--vs", f"litert:{peer}", "--seconds", "0.05", "--json").json
    assert [r["engine"] for r in result["results"]] == ["edgekit", "litert"]


def test_targets(edgekit) -> None:
    known = {t["name"]: t for t in edgekit("targets", "--json").json["targets"]}
    assert {"host", "x86-64-v2", "x86-64-v3", "x86-64-v4"} <= set(known)
    assert known["host"]["toolchain"]
    assert set(known["x86-64-v3"]["kernels"]) >= {"scalar", "sse41", "avx2"}
    assert "x86-64-v3" in edgekit("targets").out


@pytest.mark.slow
def test_build(edgekit, tmp_path: Path) -> None:
    result = edgekit("build", "--target", "host", "-o", tmp_path / "host", "--json").json
    names = {Path(path).name for path in result["artifacts"]}
    assert {"libedgekit.a", "libedgekit.so", "edgekit-run", "edgekit.h", "edgekit_cpu.h", "edgekit_threads.h"} <= names
    assert all(Path(path).is_file() for path in result["artifacts"])
    assert 20_000 < result["text_bytes"] < 400_000


def test_prune_channels(edgekit, digits: Path, tmp_path: Path) -> None:
    output = tmp_path / "smaller.onnx"
    result = edgekit("prune", digits / "digits.onnx", "-o", output, "--structured", "0.5", "--calibration",
                     digits / "digits_calib.npz", "--input-layout", "nhwc", "--input-std", "16", "--json").json  # fmt: skip
    for key in ("parameters", "macs", "bytes", "ekm_bytes", "arena_bytes"):
        assert result["after"][key] < result["before"][key]
    assert result["after"]["macs"] <= 0.4 * result["before"]["macs"]
    assert result["before"]["latency_us"] > 0
    onnx.checker.check_model(onnx.load(output), full_check=True)
    assert edgekit("convert", output, "-o", tmp_path / "smaller.ekm", "--json").json["macs"] == result["after"]["macs"]
    assert edgekit("verify", tmp_path / "smaller.ekm", "--samples", "10").code == 0


def test_convert_with_pruning(edgekit, digits: Path, tmp_path: Path) -> None:
    output = tmp_path / "sparse.ekm"
    outcome = edgekit("convert", digits / "digits.onnx", "-o", output, "--sparsity", "0.8", "--calibration",
                      digits / "digits_calib.npz", "--input-layout", "nhwc", "--input-std", "16",
                      "--data", digits / "digits_test.npz", "--json")  # fmt: skip
    before, after = outcome.json["before"], outcome.json["after"]
    assert after["nonzero_parameters"] < 0.35 * before["nonzero_parameters"]
    assert after["weight_bytes"] < 0.6 * before["weight_bytes"]
    assert before["accuracy_int8"] > 0.97
    assert 0 <= after["accuracy_int8"] <= 1
    assert output.stat().st_size == after["ekm_bytes"] == outcome.json["bytes"]
    assert "sparse_weights" in [feature.lower() for feature in edgekit("inspect", output, "--json").json["features"]]
    assert edgekit("verify", output, "--samples", "10").code == 0


def test_prune_asks_for_something_to_prune(edgekit, digits: Path, tmp_path: Path) -> None:
    outcome = edgekit("prune", digits / "digits.onnx", "-o", tmp_path / "same.onnx")
    assert outcome.code == 2
    assert "--structured" in outcome.err
    assert list(tmp_path.iterdir()) == []
