# SPDX-License-Identifier: Apache-2.0
"""Inputs and outputs: names, layouts, raw tables, quantized I/O."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.data import InputSpec, Preprocessing, open_data
from edgekit.errors import DataError
from edgekit.format.schema import Dtype, Region
from edgekit.program import Dequantize, Program, Quantize
from edgekit.quantize import Options, input_specs, quantize
from edgekit.reference import run
from tests.quantize.nets import Net, exact_bias, exact_input, exact_weights

TO_NHWC, TO_NCHW = (0, 2, 3, 1), (0, 3, 1, 2)


def image_net(rng: np.random.Generator, channels: int = 3) -> Net:
    """An NCHW image in, one convolution inside, NCHW out."""
    net = Net()
    x = net.input((1, channels, 4, 5), "image")
    x = net.node("Transpose", [x], (1, 4, 5, channels), perm=TO_NHWC)
    w = net.constant(exact_weights(rng, (6, 1, 1, channels)))
    attrs = {"strides": (1, 1), "dilations": (1, 1), "pads": (0, 0, 0, 0), "groups": 1}
    y = net.node("Conv", [x, w, net.constant(exact_bias(rng, 6))], (1, 4, 5, 6), **attrs)
    net.output(net.node("Transpose", [y], (1, 6, 4, 5), perm=TO_NCHW), "scores")
    return net


def build(net: Net, rng: np.random.Generator, **options: object) -> Program:
    data = {p.name: exact_input(rng, p.shape) for p in net.graph.inputs}
    return quantize(net.graph, net.calibrate(data), Options(**options))  # type: ignore[arg-type]


def kinds(program: Program) -> list[str]:
    return [type(o).__name__ for o in program.ops]


def test_transposes_at_the_edges_cost_nothing(rng: np.random.Generator) -> None:
    program = build(image_net(rng), rng)
    assert kinds(program) == ["Quantize", "Conv2D", "Dequantize"]
    assert (program.inputs, program.outputs) == (["image"], ["scores"])
    first, last = program.ops[0], program.ops[-1]
    assert isinstance(first, Quantize)
    assert isinstance(last, Dequantize)
    assert (first.perm, last.perm) == (TO_NHWC, TO_NCHW)
    for name, shape in (("image", (1, 3, 4, 5)), ("scores", (1, 6, 4, 5))):
        tensor = program.tensors[name]
        assert (tensor.shape, tensor.dtype, tensor.region) == (shape, Dtype.F32, Region.IO)
    assert program.tensors["image_quantized"].shape == (1, 4, 5, 3)


def test_nhwc_outside_gives_the_same_numbers(rng: np.random.Generator) -> None:
    net = image_net(rng)
    x = {"image": exact_input(rng, (1, 3, 4, 5))}
    calibration = net.calibrate(x)
    plain = run(quantize(net.graph, calibration), x)["scores"]
    program = quantize(net.graph, calibration, Options(io_layout="nhwc"))
    assert program.tensors["image"].shape == (1, 4, 5, 3)
    turned = run(program, {"image": x["image"].transpose(TO_NHWC)})["scores"]
    np.testing.assert_array_equal(turned, plain.transpose(TO_NHWC))


def test_a_reshape_between_layouts_counts_as_one(rng: np.random.Generator) -> None:
    net = Net()
    x = net.input((1, 1, 4, 5))
    y = net.node("Reshape", [x], (1, 4, 5, 1))
    net.output(net.node("Unary", [y], (1, 4, 5, 1), fn="Relu", params={}))
    program = build(net, rng)
    assert kinds(program) == ["Quantize", "Lut", "Dequantize"]
    assert program.ops[0].perm == TO_NHWC  # type: ignore[attr-defined]


def test_a_transpose_with_other_readers_stays(rng: np.random.Generator) -> None:
    net = Net()
    x = net.input((1, 3, 4, 5))
    net.output(net.node("Transpose", [x], (1, 4, 5, 3), perm=TO_NHWC), "a")
    net.output(net.node("Unary", [x], (1, 3, 4, 5), fn="Relu", params={}), "b")
    program = build(net, rng)
    data = exact_input(rng, (1, 3, 4, 5))
    outputs = run(program, {"x": data})
    np.testing.assert_array_equal(outputs["a"], data.transpose(TO_NHWC))
    step = float(program.tensors[program.ops[-1].inputs[0]].quant.scale)
    np.testing.assert_allclose(outputs["b"], np.maximum(data, 0), atol=step * 0.51)


@pytest.mark.parametrize("io", ["float", "int8"])
def test_identity_and_shared_outputs(rng: np.random.Generator, io: str) -> None:
    net = Net()
    x = net.input((1, 6))
    y = net.node("Unary", [x], (1, 6), fn="Relu", params={})
    net.output(x, "same")
    net.output(y, "first")
    net.output(y, "second")
    program = build(net, rng, io=io)
    data = exact_input(rng, (1, 6))
    q = program.tensors["same"].quant or program.tensors["x_quantized"].quant
    fed = data if io == "float" else np.rint(data / q.scale + q.zero_point).astype(np.int8)
    outputs = run(program, {"x": fed})
    np.testing.assert_array_equal(outputs["same"], fed)
    np.testing.assert_array_equal(outputs["first"], outputs["second"])
    assert program.outputs == ["same", "first", "second"]


def test_an_input_straight_through_a_transpose(rng: np.random.Generator) -> None:
    net = Net()
    net.output(net.node("Transpose", [net.input((1, 3, 4, 5))], (1, 4, 5, 3), perm=TO_NHWC))
    data = exact_input(rng, (1, 3, 4, 5))
    for io in ("float", "int8"):
        program = build(net, rng, io=io)
        fed = data if io == "float" else data.astype(np.int8)
        np.testing.assert_array_equal(run(program, {"x": fed})["out"], fed.transpose(TO_NHWC))


# ---- Quantized I/O -----------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["onnx", "nhwc"])
def test_int8_io_is_the_same_computation(rng: np.random.Generator, layout: str) -> None:
    net = image_net(rng)
    x = {"image": exact_input(rng, (1, 3, 4, 5))}
    calibration = net.calibrate(x)
    expected, taps = run(quantize(net.graph, calibration), x, taps=True)
    program = quantize(net.graph, calibration, Options(io="int8", io_layout=layout))  # type: ignore[arg-type]
    assert not any(isinstance(o, (Quantize, Dequantize)) for o in program.ops)
    assert kinds(program) == (["Conv2D"] if layout == "nhwc" else ["Transpose", "Conv2D", "Transpose"])
    fed = taps["image_quantized"]
    out = run(program, {"image": fed if layout == "nhwc" else fed.transpose(TO_NCHW)})["scores"]
    quant = program.tensors["scores"].quant
    real = (out.astype(np.float32) - quant.zero_point) * quant.scale
    expected = expected["scores"]
    np.testing.assert_array_equal(real, expected.transpose(TO_NHWC) if layout == "nhwc" else expected)


def test_int8_io_has_no_table(rng: np.random.Generator) -> None:
    program = build(image_net(rng), rng, io="int8", preprocessing=Preprocessing("nhwc", (1.0,), (2.0,)))
    assert program.tensors["image"].dtype == Dtype.I8


# ---- Raw data ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc", None])
@pytest.mark.parametrize(
    ("mean", "std"),
    [((83.0,), (1 / 0.5847029,)), ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)), (None, (255.0,))],
)
def test_raw_bytes_give_the_bits_of_normalized_floats(
    rng: np.random.Generator, dtype: str, layout: str | None, mean: tuple | None, std: tuple | None
) -> None:
    net = image_net(rng)
    preprocessing = Preprocessing(layout, mean, std, dtype)  # type: ignore[arg-type]
    raw_dtype = Dtype.U8 if dtype == "uint8" else Dtype.I8
    program = build(net, rng, preprocessing=preprocessing, raw_dtypes={"image": raw_dtype})
    raw = rng.integers(0, 256, (20, 4, 5, 3)).astype(np.uint8).view(dtype)
    if layout != "nhwc":
        raw = raw.transpose(TO_NCHW)
    data = open_data(raw, input_specs(net.graph), preprocessing)
    for normalized, stored in zip(data.batches(), data.raw_batches(), strict=True):
        _, by_float = run(program, normalized.inputs, taps=True)
        _, by_table = run(program, stored.inputs, taps=True)
        np.testing.assert_array_equal(by_table["image_quantized"], by_float["image_quantized"])
    (op,) = (o for o in program.ops if isinstance(o, Quantize))
    assert op.raw_table.shape == ((1, 256) if mean is None or len(mean) == 1 else (3, 256))


def test_the_whole_raw_range_is_lossless(rng: np.random.Generator) -> None:
    net = image_net(rng)
    program = build(net, rng, preprocessing=Preprocessing("nhwc", (83.0,), (1 / 0.5847029,)))
    (op,) = (o for o in program.ops if isinstance(o, Quantize))
    assert len(np.unique(op.raw_table)) == 256


def test_without_preprocessing_nothing_is_recorded(rng: np.random.Generator) -> None:
    (op,) = (o for o in build(image_net(rng), rng).ops if isinstance(o, Quantize))
    assert op.raw_dtype is None
    assert op.raw_table is None


def test_channels_that_do_not_fit_are_refused(rng: np.random.Generator) -> None:
    with pytest.raises(DataError, match="--input-mean: 2 values"):
        build(image_net(rng), rng, preprocessing=Preprocessing("nhwc", (1.0, 2.0)))


# ---- Names and layouts -------------------------------------------------------------------------


def test_names_never_collide(rng: np.random.Generator) -> None:
    net = Net()
    a = net.input((1, 4), "a")
    net.input((1, 4), "a_quantized")
    y = net.node("Add", [a, "a_quantized"], (1, 4))
    net.graph.values["out"] = net.graph.values.pop(y)
    net.graph.values["out"].name = "out"
    net.graph.nodes[0].outputs = ["out"]
    net.output("out", "out")
    program = build(net, rng)
    data = {"a": exact_input(rng, (1, 4)), "a_quantized": exact_input(rng, (1, 4))}
    assert run(program, data)["out"].shape == (1, 4)
    assert program.inputs == ["a", "a_quantized"]
    assert program.tensors["out_quantized"].dtype == Dtype.I8


def test_sources_of_tensors_are_kept(rng: np.random.Generator) -> None:
    net = image_net(rng)
    moved = net.graph.nodes[0].outputs[0]
    net.graph.values[moved].source, net.graph.values[moved].source_perm = "image", TO_NHWC
    tensor = build(net, rng).tensors["image_quantized"]
    assert (tensor.source, tensor.source_perm) == ("image", TO_NHWC)


def test_own_layout_of_inputs(rng: np.random.Generator) -> None:
    assert input_specs(image_net(rng).graph) == [InputSpec("image", (1, 3, 4, 5), "nchw")]
    net = Net()
    x = net.input((1, 8, 8, 8))
    y = net.node("Unary", [x], (1, 8, 8, 8), fn="Relu", params={})
    attrs = {"strides": (1, 1), "dilations": (1, 1), "pads": (0, 0, 0, 0), "kernel": (1, 1)}
    net.output(net.node("MaxPool", [y], (1, 8, 8, 8), **attrs))
    assert input_specs(net.graph)[0].layout == "nhwc"
    vector = Net()
    vector.output(vector.input((1, 640)))
    assert input_specs(vector.graph)[0].layout is None


def test_a_constant_output(rng: np.random.Generator) -> None:
    net = Net()
    net.input((1, 2))
    net.output(net.constant([[0.5, -2.0]]))
    data = {"x": exact_input(rng, (1, 2))}
    np.testing.assert_allclose(run(build(net, rng), data)["out"], [[0.5, -2.0]], atol=0.01)
