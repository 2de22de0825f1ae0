# SPDX-License-Identifier: Apache-2.0
"""Raw data: what `convert` records of it, later commands need not be told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.format.reader import read
from edgekit.format.schema import RawLayout
from edgekit.format.summary import preprocessing

SIZE = 8
"""Rows, columns and channels: nothing about the shape of a cube tells its layout."""
MEAN = tuple(10.0 * i for i in range(SIZE))
STD = tuple(50.0 + i for i in range(SIZE))
QUICK = ["--backends", "reference,c-scalar"]


def cube_net(path: Path, batch: int = 1, size: int = SIZE) -> Path:
    """A convolution and a projection of NCHW images with as many channels as rows and columns."""
    rng = np.random.default_rng(3)
    weights = {
        "w": rng.normal(0, 0.2, (size, size, 3, 3)),
        "v": rng.normal(0, 0.2, (size * size * size, 5)),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["a"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["image_out"], "relu"),
        helper.make_node("Flatten", ["image_out"], ["f"], "flatten"),
        helper.make_node("MatMul", ["f", "v"], ["scores"], "dense"),
    ]
    shape = [batch, size, size, size]
    graph = helper.make_graph(
        nodes, "cube",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 5]),
         helper.make_tensor_value_info("image_out", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.fixture
def pixels() -> np.ndarray:
    """NHWC; rows, columns and channels differ in brightness, so that no two layouts give the same numbers."""
    rng = np.random.default_rng(5)
    ramps = [np.arange(SIZE).reshape([-1 if i == axis else 1 for i in range(3)]) * step for axis, step in enumerate((3, 7, 13))]
    return (rng.integers(0, 80, (20, SIZE, SIZE, SIZE)) + sum(ramps)).astype(np.uint8)


@pytest.fixture
def data(pixels: np.ndarray, tmp_path: Path) -> Path:
    np.savez(tmp_path / "raw.npz", x=pixels)
    return tmp_path / "raw.npz"


def options(layout: str | None = "nhwc") -> list[str]:
    texts = [",".join(map(str, values)) for values in (MEAN, STD)]
    return [*(["--input-layout", layout] if layout else []), "--input-mean", texts[0], "--input-std", texts[1]]


@pytest.fixture(scope="module")
def converted_cubes() -> dict[tuple[object, ...], bytes]:
    """The files that `convert` made, by its arguments: each is made once."""
    return {}


@pytest.fixture
def convert(
    edgekit: Callable, data: Path, tmp_path: Path, converted_cubes: dict[tuple[object, ...], bytes]
) -> Callable[..., Path]:
    def run(*more: object, batch: int = 1, given: list[str] | None = None) -> Path:
        model, path = cube_net(tmp_path / "cube.onnx", batch), tmp_path / "cube.ekm"
        arguments = (*(options() if given is None else given), *more)
        if (batch, arguments) not in converted_cubes:
            outcome = edgekit("convert", model, "--calibration", data, *arguments)
            assert outcome.code == 0, outcome.err
            converted_cubes[batch, arguments] = path.read_bytes()
        path.write_bytes(converted_cubes[batch, arguments])
        return path

    return run


def test_the_file_holds_what_was_given(convert: Callable, edgekit: Callable) -> None:
    path = convert()
    op = read(path).ops[0]
    assert (op.raw_layout, tuple(op.raw_mean), tuple(op.raw_std)) == (RawLayout.NHWC, MEAN, STD)
    port = edgekit("inspect", path, "--json").json["inputs"][0]
    assert port["raw_shape"] == [1, SIZE, SIZE, SIZE]
    assert (port["raw_dtype"], port["raw_layout"]) == ("u8", "nhwc")
    assert (tuple(port["raw_mean"]), tuple(port["raw_std"])) == (MEAN, STD)
    assert "nhwc" in edgekit("inspect", path).out


def test_nothing_given_is_nothing_recorded(convert: Callable, edgekit: Callable) -> None:
    path = convert(given=[])
    assert read(path).ops[0].raw_table is None
    port = edgekit("inspect", path, "--json").json["inputs"][0]
    assert [port[f"raw_{key}"] for key in ("dtype", "shape", "layout", "mean", "std")] == [None] * 5


def test_export_keeps_it_as_metadata(convert: Callable, edgekit: Callable, tmp_path: Path) -> None:
    path = convert()
    assert edgekit("export", path, "-o", tmp_path / "cube.quant.onnx").code == 0
    (entry,) = onnx.load(tmp_path / "cube.quant.onnx").metadata_props
    assert entry.key == "edgekit.raw.image"
    assert json.loads(entry.value) == preprocessing(read(path))["image"]


@pytest.mark.parametrize("layout", [[], ["--io-layout", "nhwc"]])
def test_compare_needs_no_options(
    convert: Callable, edgekit: Callable, data: Path, pixels: np.ndarray, tmp_path: Path, layout: list[str]
) -> None:
    """Raw data without options, with them, and what the float model sees of it: the same numbers."""
    path = convert(*layout)
    command = ["compare", tmp_path / "cube.onnx", path, "--json", "--input"]
    alone = edgekit(*command, data).json
    assert edgekit(*command, data, *options()).json == alone
    assert min(layer["sqnr_db"] for layer in alone["layers"]) > 20
    assert alone["output_sqnr_db"] > 20
    own = (pixels.astype(np.float32) - np.float32(MEAN)) / np.float32(STD)
    np.savez(tmp_path / "own.npz", x=own.transpose(0, 3, 1, 2))
    assert edgekit(*command, tmp_path / "own.npz").json == alone


def test_compare_without_a_record_needs_them(convert: Callable, edgekit: Callable, data: Path, tmp_path: Path) -> None:
    path = convert()
    with_record = edgekit("compare", tmp_path / "cube.onnx", path, "--input", data, "--json").json
    other = convert("--io-layout", "nhwc", given=[])
    given = edgekit("compare", tmp_path / "cube.onnx", other, "--input", data, *options(), "--json").json
    assert [layer["name"] for layer in given["layers"]] == [layer["name"] for layer in with_record["layers"]]


def test_compare_says_where_nothing_tells_the_layout(convert: Callable, edgekit: Callable, data: Path, tmp_path: Path) -> None:
    path = convert("--io", "int8", "--io-layout", "nhwc")
    outcome = edgekit("compare", tmp_path / "cube.onnx", path, "--input", data, *options())
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "does not tell nchw from nhwc" in outcome.err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--input-layout", "nchw"], "--input-layout nchw: the file records nhwc"),
        (["--input-mean", "10"], "--input-mean 10: the file records 0,10,20,30,40,50,60,70"),
        (["--input-std", "50,51,52,53,54,55,56,58"], "--input-std 50,51,52,53,54,55,56,58: the file records 50,"),
        (["--input-std", "1,2"], "--input-std: 2 values, but input 'image'"),
    ],
)
@pytest.mark.parametrize("command", ["compare", "run", "eval", "verify"])
def test_other_options_are_refused(
    convert: Callable, edgekit: Callable, data: Path, tmp_path: Path, command: str, given: list[str], message: str
) -> None:
    path = convert()
    models = [tmp_path / "cube.onnx", path] if command == "compare" else [path]
    outcome = edgekit(command, *models, "--data" if command == "eval" else "--input", data, *given)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert message in outcome.err and "cube.ekm" in outcome.err


def test_a_part_of_what_is_recorded_may_be_repeated(convert: Callable, edgekit: Callable, data: Path, tmp_path: Path) -> None:
    path = convert()
    results = []
    for given in ([], ["--input-layout", "nhwc"], options(None), options()):
        assert edgekit("run", path, "--input", data, *given, "-o", tmp_path / "out.npz").code == 0
        results.append(np.load(tmp_path / "out.npz")["scores"])
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_float_data_is_the_models_own_input(
    convert: Callable, edgekit: Callable, data: Path, pixels: np.ndarray, tmp_path: Path
) -> None:
    path = convert()
    own = (pixels.astype(np.float32) - np.float32(MEAN)) / np.float32(STD)
    np.savez(tmp_path / "own.npz", x=own.transpose(0, 3, 1, 2))
    found = []
    for source in (data, tmp_path / "own.npz"):
        assert edgekit("run", path, "--input", source, "-o", tmp_path / "out.npz").code == 0
        found.append(np.load(tmp_path / "out.npz"))
    for name in ("scores", "image_out"):
        np.testing.assert_array_equal(found[0][name], found[1][name])


def test_other_integers_are_refused(convert: Callable, edgekit: Callable, pixels: np.ndarray, tmp_path: Path) -> None:
    path = convert()
    np.savez(tmp_path / "wide.npz", x=pixels.astype(np.int32))
    for command in (["run"], ["compare", tmp_path / "cube.onnx"], ["verify"]):
        outcome = edgekit(*command, path, "--input", tmp_path / "wide.npz")
        assert (outcome.code, outcome.err.count("\n")) == (2, 1)
        assert "takes raw uint8 or float32, the data is int32" in outcome.err


def test_layout_that_nothing_tells(edgekit: Callable, data: Path, tmp_path: Path) -> None:
    """Neither the operators nor the shape of a cube say which dimension holds its channels."""
    graph = onnx.load(cube_net(tmp_path / "net.onnx"))
    del graph.graph.node[0], graph.graph.output[1]
    graph.graph.node[0].input[0] = "image"
    del graph.graph.initializer[0]
    onnx.save(graph, tmp_path / "flat.onnx")
    command = ["convert", tmp_path / "flat.onnx", "--calibration", data]
    for given in (["--input-layout", "nhwc"], options(None)):
        outcome = edgekit(*command, *given)
        assert (outcome.code, outcome.err.count("\n")) == (2, 1)
        assert "neither its shape nor the model tells nchw from nhwc" in outcome.err
    assert edgekit(*command, "--input-std", "255").code == 0
    assert edgekit("run", tmp_path / "flat.ekm", "--input", data).code == 0


def test_one_of_two_inputs_is_raw(edgekit: Callable, pixels: np.ndarray, tmp_path: Path) -> None:
    """Of several inputs the images are raw; the others stay what they are, in every command."""
    model = onnx.load(cube_net(tmp_path / "two.onnx"))
    model.graph.input.append(helper.make_tensor_value_info("bias", TensorProto.FLOAT, [1, 5]))
    model.graph.node[-1].output[0] = "product"
    model.graph.node.append(helper.make_node("Add", ["product", "bias"], ["scores"], "add"))
    onnx.save(model, tmp_path / "two.onnx")
    bias = np.random.default_rng(1).normal(0, 1, (len(pixels), 5))
    np.savez(tmp_path / "two.npz", image=pixels, bias=bias)
    data = tmp_path / "two.npz"
    assert edgekit("convert", tmp_path / "two.onnx", "--calibration", data, *options()).code == 0
    path = tmp_path / "two.ekm"
    found = []
    for given in ([], options()):
        assert edgekit("run", path, "--input", data, *given, "-o", tmp_path / "out.npz").code == 0
        found.append(np.load(tmp_path / "out.npz")["scores"])
    np.testing.assert_array_equal(*found)
    result = edgekit("compare", tmp_path / "two.onnx", path, "--input", data, "--json").json
    assert result["output_sqnr_db"] > 20
    assert edgekit("verify", path, "--input", data, *QUICK, "--json").json["samples"] == len(pixels)


def test_samples_of_a_model_with_a_fixed_batch(
    convert: Callable, edgekit: Callable, data: Path, pixels: np.ndarray, tmp_path: Path
) -> None:
    """20 samples, 3 at a time: every command counts 20, and Python gives what the command line does."""
    import edgekit as package

    path = convert(batch=3)
    certificate = tmp_path / "cert.json"
    verified = edgekit("verify", path, "--input", data, *QUICK, "--json", "--write-certificate", certificate)
    assert verified.json["samples"] == 20
    assert json.loads(certificate.read_text())["samples"] == 20
    assert edgekit("verify", path, "--input", data, "--certificate", certificate, *QUICK).code == 0
    assert edgekit("verify", path, "--samples", "10", *QUICK, "--json").json["samples"] == 10
    assert edgekit("compare", tmp_path / "cube.onnx", path, "--input", data, "--json").json["samples"] == 20

    outcome = edgekit("run", path, "--input", data, "-o", tmp_path / "out.npz", "--json").json
    assert outcome["outputs"]["scores"] == [20, 5]
    model = package.load(path)
    for count in (1, 2, 3, 4, 20):
        outputs = model.run(pixels[:count])
        for name, array in np.load(tmp_path / "out.npz").items():
            np.testing.assert_array_equal(outputs[name], array[:count])
        assert model.verify(pixels[:count], backends=["reference", "c-scalar"]).samples == count
    assert model.verify(samples=7, backends=["reference"]).samples == 7
    with pytest.raises(package.DataError, match="give one batch"):
        model.trace(pixels[:2])


@pytest.mark.parametrize("command", ["run", "eval", "verify"])
def test_nothing_prepares_the_quantized_tensor(convert: Callable, edgekit: Callable, tmp_path: Path, command: str) -> None:
    path = convert("--io", "int8")
    np.savez(tmp_path / "q.npz", image=np.zeros((2, SIZE, SIZE, SIZE), np.int8), y=np.zeros(2))
    outcome = edgekit(command, path, "--data" if command == "eval" else "--input", tmp_path / "q.npz", "--input-std", "2")
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert "quantized tensor itself" in outcome.err


def test_the_remedy_for_another_layout_is_one(edgekit: Callable, tmp_path: Path) -> None:
    """Not the option that the next message would refuse."""
    rng = np.random.default_rng(1)
    w = numpy_helper.from_array(rng.normal(size=(4, 3, 3, 3)).astype(np.float32), "w")
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Flatten", ["c"], ["y"])]
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 3, 8, 8]), ("y", [1, 144]))]
    graph = helper.make_graph(nodes, "net", ports[:1], ports[1:], [w])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "net.onnx")
    np.savez(tmp_path / "nhwc.npz", x=rng.integers(0, 256, (4, 8, 8, 3), np.uint8))
    np.savez(tmp_path / "nchw.npz", x=rng.integers(0, 256, (4, 3, 8, 8), np.uint8))
    convert = ["convert", tmp_path / "net.onnx", "--calibration", tmp_path / "nhwc.npz", "--input-std", "255"]
    assert "it fits with --input-layout nhwc" in edgekit(*convert).err
    assert edgekit(*convert, "--input-layout", "nhwc").code == 0
    outcome = edgekit("run", tmp_path / "net.ekm", "--input", tmp_path / "nchw.npz")
    assert outcome.code == 2
    assert "transpose the data, or convert the model again with --input-layout nchw" in outcome.err
