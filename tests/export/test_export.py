# SPDX-License-Identifier: Apache-2.0
"""The exported model as a whole: interface, operators, layouts, optimization levels, ties."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from edgekit import program as p
from edgekit.errors import InputError
from edgekit.export import export, nonstandard_ops, spell
from edgekit.format.writer import write
from edgekit.plan import plan
from edgekit.reference.executor import run
from edgekit.verify import verify
from edgekit.verify.backends.onnxruntime import real_inputs, tap
from tests.support import OPERATORS, Build, Random, cases, exp_table, quant

NHWC_OF_NCHW = (0, 2, 3, 1)
NCHW_OF_NHWC = (0, 3, 1, 2)
LEVELS = [
    onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
]


def small_net(seed: int = 1) -> p.Program:
    """A residual image classifier with every operator of one: NCHW float in, float out."""
    r, b = Random(seed), Build()
    x = b.float_input((1, 3, 12, 10), quant(0.03, -11), perm=NHWC_OF_NCHW)

    def conv(
        x: str, shape: tuple[int, ...], w: np.ndarray, cls: type[p.Op] = p.Conv2D, **fields: object
    ) -> str:
        channels = shape[3]
        return b.op(
            cls, [x, b.constant(w)], shape, quant(0.04, -128), lo=-128, hi=127,
            bias=r.rng.integers(-900, 900, channels).astype(np.int32),
            weight_scale=np.full(channels, 0.01, np.float32), **fields,
        )  # fmt: skip

    stem = conv(x, (1, 6, 5, 16), r.weights(16, 3, 3, 3), strides=(2, 2), pads=(0, 0, 1, 1))
    depth = conv(stem, (1, 6, 5, 16), r.weights(3, 3, 16), p.DepthwiseConv2D, pads=(1, 1, 1, 1))
    point = conv(depth, (1, 6, 5, 16), r.weights(16, 1, 1, 16))
    total = b.op(p.Add, [point, stem], (1, 6, 5, 16), quant(0.06, -128), lo=-128, hi=100)
    gate = b.op(p.Lut, [total], (1, 6, 5, 16), quant(1 / 256, -128), table=r.int8(256))
    gated = b.op(p.Mul, [total, gate], (1, 6, 5, 16), quant(0.05, -100), lo=-128, hi=127)
    pooled = b.op(p.MaxPool, [gated], (1, 3, 2, 16), quant(0.05, -100), kernel=(2, 2), strides=(2, 2))
    mean = b.op(p.AveragePool, [pooled], (1, 1, 1, 16), quant(0.03, -90), kernel=(3, 2), lo=-128, hi=127)
    flat = b.op(p.Reshape, [mean], (1, 16), quant(0.03, -90))
    dense = b.op(
        p.Dense, [flat, b.constant(r.weights(5, 16))], (1, 5), quant(0.1, 4), lo=-128, hi=127,
        bias=np.zeros(5, np.int32), weight_scale=np.full(5, 0.02, np.float32),
    )  # fmt: skip
    y = b.op(p.Softmax, [dense], (1, 5), quant(1 / 256, -128), table=exp_table(np.float32(0.1), 5))
    b.float_output(y)
    return b.finish()


def test_net_has_the_same_bits() -> None:
    report = verify(small_net(), samples=60, backends=["reference", "onnxruntime"])
    assert report.ok, report.problems()
    assert report.backends[1].tensors == 12
    assert report.backends[0].digest == report.backends[1].digest
    assert report.backends[0].output_digest == report.backends[1].output_digest


def test_interface_is_the_float_one() -> None:
    program = small_net()
    graph = spell(program).model.graph
    for ports, names in ((graph.input, program.inputs), (graph.output, program.outputs)):
        assert [v.name for v in ports] == names
        for port in ports:
            assert port.type.tensor_type.elem_type == TensorProto.FLOAT
            shape = tuple(d.dim_value for d in port.type.tensor_type.shape.dim)
            assert shape == program.tensors[port.name].shape


@pytest.mark.parametrize("operator", OPERATORS)
def test_only_standard_integer_operators(operator: str) -> None:
    for case in cases(operator, range(4)):
        exported = spell(case.program)
        assert exported.nonstandard_ops == nonstandard_ops(exported.model) == []
        onnx.checker.check_model(exported.model, full_check=True)
        inferred = onnx.shape_inference.infer_shapes(exported.model, strict_mode=True)
        assert not {n.op_type for n in exported.model.graph.node} & {"Conv", "Gemm", "MatMul"}
        kinds = {v.name: v.type.tensor_type.elem_type for v in inferred.graph.value_info}
        for tensor in case.program.quantized():
            assert kinds[exported.placements[tensor.name].name] == TensorProto.INT8


def test_convolutions_follow_each_other_without_transposes() -> None:
    """NCHW from the input to the pooled vector, which has only one order."""
    kinds = [n.op_type for n in spell(small_net()).model.graph.node]
    assert "Transpose" not in kinds and kinds.count("QLinearConv") == 4


def test_names_and_layouts_are_kept() -> None:
    program = small_net()
    placements = spell(program).placements
    assert {t.name for t in program.quantized()} == set(placements)
    assert all(placement.name == name for name, placement in placements.items())
    stem = next(op for op in program.ops if isinstance(op, p.Conv2D)).outputs[0]
    assert placements[stem].perm == NCHW_OF_NHWC


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: str(level).rpartition(".")[2])
def test_same_bits_at_every_optimization_level(level: onnxruntime.GraphOptimizationLevel) -> None:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    programs = [small_net(), *(OPERATORS[name](Random(100 + i)) for i, name in enumerate(OPERATORS))]
    for i, program in enumerate(programs):
        exported = spell(program)
        plain = onnxruntime.InferenceSession(exported.model.SerializeToString(), options)
        tapped = onnxruntime.InferenceSession(tap(exported).SerializeToString(), options)
        sample = Random(i).samples(program, 1)[0] if i else {program.inputs[0]: image(i)}
        outputs, tensors = run(program, sample, taps=True)
        feed = real_inputs(program, sample)
        shown = dict(zip([o.name for o in tapped.get_outputs()], tapped.run(None, feed), strict=True))
        for tensor in program.quantized():
            placement = exported.placements[tensor.name]
            np.testing.assert_array_equal(
                shown[placement.name], tensors[tensor.name].transpose(placement.perm)
            )
        for name, array in zip([o.name for o in plain.get_outputs()], plain.run(None, feed), strict=True):
            np.testing.assert_array_equal(array, shown[name])
            if i == 0:
                np.testing.assert_array_equal(array, outputs[name])


def image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, (1, 3, 12, 10)).astype(np.float32)


@pytest.mark.parametrize("operator", [p.Add, p.Mul])
@pytest.mark.parametrize("seed", range(6))
def test_all_pairs_of_values(operator: type[p.Op], seed: int) -> None:
    """All 65,536 pairs, where fusing multiplication and addition would differ in about one in a million;
    the even seeds have powers of two as scales, hence ties."""
    r, b = Random(seed), Build()
    r.directed = seed % 2 == 0
    left, right = b.input((256, 1), r.quant(0.1)), b.input((1, 256), r.quant(0.1))
    program = b.finish(b.op(operator, [left, right], (256, 256), r.quant(0.15), lo=-128, hi=127))
    values = np.arange(-128, 128).astype(np.int8)
    sample = {left: values[:, None], right: values[None]}
    report = verify(program, [sample], backends=["reference", "onnxruntime"])
    assert report.ok, report.problems()


@pytest.mark.parametrize("zero", [-128, -3, 0, 7, 127])
@pytest.mark.parametrize("shift", [1, 2, 5])
def test_convolution_ties(shift: int, zero: int) -> None:
    """Accumulators at every odd multiple of half a step, both signs."""
    b = Build()
    x = b.input((1, 1, 256, 1), quant(1.0))
    w = b.constant(np.array([1], np.int8).reshape(1, 1, 1, 1))
    y = b.op(
        p.Conv2D, [x, w], (1, 1, 256, 1), quant(2.0**shift, zero), lo=-128, hi=127,
        bias=np.array([1 << (shift - 1)], np.int32), weight_scale=np.ones(1, np.float32),
    )  # fmt: skip
    sample = {x: np.arange(-128, 128).astype(np.int8).reshape(1, 1, 256, 1)}
    report = verify(b.finish(y), [sample], backends=["reference", "onnxruntime"])
    assert report.ok, report.problems()


@pytest.mark.parametrize("sign", [-1, 1])
def test_accumulators_at_the_proven_limit(sign: int) -> None:
    """32,768 products of 255 * 128 reach 2^30; the bias takes the sum to the end of int32."""
    b, k = Build(), 2**15
    x = b.input((2, k), quant(1.0, -128))
    w = b.constant(np.full((3, k), -128 if sign < 0 else 127, np.int8))
    limit = 255 * k * (128 if sign < 0 else 127)
    bias = np.array([2**31 - 1 - limit, 1 - 2**31 + limit, 0]) * sign
    y = b.op(
        p.Dense, [x, w], (2, 3), quant(2.0**24, 1), lo=-128, hi=127,
        bias=bias.astype(np.int32), weight_scale=np.ones(3, np.float32),
    )  # fmt: skip
    sample = {x: np.repeat(np.array([[127], [-128]], np.int8), k, axis=1)}
    report = verify(b.finish(y), [sample], backends=["reference", "onnxruntime"])
    assert report.ok, report.problems()


@pytest.mark.parametrize(
    ("sx", "sy"), [(2.0**-96, 1.0), (2.0**64, 1.0), (1.0, 2.0**64), (2.0**-90, 2.0**-96)]
)
def test_scales_at_the_ends_of_their_range(sx: float, sy: float) -> None:
    b, r = Build(), Random(3)
    x = b.input((1, 4, 4, 8), quant(sx, 5))
    w, one = b.constant(r.weights(8, 1, 1, 8)), np.ones(8, np.float32)
    common = {"lo": -128, "hi": 127}
    conv = b.op(p.Conv2D, [x, w], (1, 4, 4, 8), quant(sy, -3), bias=_zeros(8), weight_scale=one, **common)
    pool = b.op(p.AveragePool, [x], (1, 1, 1, 8), quant(sy, -3), kernel=(4, 4), **common)
    total = b.op(p.Add, [x, x], (1, 4, 4, 8), quant(sy, -3), **common)
    b.float_output(conv), b.float_output(total)
    program = b.finish(pool)
    report = verify(program, r.samples(program), backends=["reference", "onnxruntime"])
    assert report.ok, report.problems()


def _zeros(channels: int) -> np.ndarray:
    return np.zeros(channels, np.int32)


def test_operand_order_rank_and_layout_may_differ() -> None:
    """An NCHW tensor plus a vector of its channels, a scalar and a transposed copy of itself."""
    b, r = Build(), Random(4)
    x = b.float_input((1, 6, 5, 4), quant(0.1, 3), perm=NHWC_OF_NCHW)
    vector = b.float_input((6,), quant(0.2, -9))
    scalar = b.constant(np.array(17, np.int8), quant(0.1, 1))
    turned = b.op(p.Transpose, [x], (1, 4, 5, 6), quant(0.1, 3), perm=(0, 2, 1, 3))
    squared = b.op(p.Transpose, [turned], (1, 5, 4, 6), quant(0.1, 3), perm=(0, 2, 1, 3))
    a = b.op(p.Add, [vector, x], (1, 5, 4, 6), quant(0.2, 5), lo=-128, hi=127)
    c = b.op(p.Mul, [a, scalar], (1, 5, 4, 6), quant(0.3, 5), lo=-128, hi=127)
    d = b.op(p.Add, [c, squared], (1, 5, 4, 6), quant(0.4, 5), lo=-128, hi=127, subtract=True)
    e = b.op(p.Concat, [d, c], (1, 5, 4, 12), quant(0.4, 5), axis=3)
    flat = b.op(p.Reshape, [e], (5, 48), quant(0.4, 5))
    b.float_output(flat, perm=(1, 0))
    b.float_output(turned, perm=(0, 1, 3, 2))
    program = b.finish()
    samples = [
        {name: r.rng.normal(0, 5, program.tensors[name].shape).astype(np.float32) for name in program.inputs}
        for _ in range(5)
    ]
    report = verify(program, samples, backends=["reference", "onnxruntime"])
    assert report.ok, report.problems()


def test_the_same_program_gives_the_same_bytes() -> None:
    assert spell(small_net()).model.SerializeToString() == spell(small_net()).model.SerializeToString()


def test_export_of_a_file(tmp_path: Path) -> None:
    program = small_net()
    plan(program)
    write(program, tmp_path / "net.ekm")
    result = export(tmp_path / "net.ekm", tmp_path / "net.onnx")
    assert result["model"] == str(tmp_path / "net.onnx") and result["nonstandard_ops"] == []
    assert result["ops"]["QLinearConv"] == 4
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    x = image(9)
    (y,) = session.run(None, {program.inputs[0]: x})
    np.testing.assert_array_equal(y, run(program, {program.inputs[0]: x})[program.outputs[0]])


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    program = small_net()
    plan(program)
    with pytest.raises(InputError, match=r"no/net.onnx: the folder .* does not exist"):
        export(write(program), tmp_path / "no" / "net.onnx")


def test_one_over_a_number_times_another_is_rounded_twice() -> None:
    """ONNX Runtime makes one division of that, if it is written so; here that gives other numbers.

    A softmax of two elements with output scale 1, one entry half a unit above one half of the sum; and layer norms
    of rows half of which is +a and half -a, whose quotients are exactly 1 and -1.
    """
    b = Build()
    pair = b.input((1, 2), quant(0.1))
    table = np.zeros(256, np.uint32)
    table[:2] = 14897633, 14897632
    probable = b.op(p.Softmax, [pair], (1, 2), quant(1.0), table=table, lo=-128, hi=127)
    rows = b.input((127, 6), quant(0.1))
    norm = {"epsilon": np.float32(2.0**-96), "gain": np.full(6, 11.5, np.float32), "offset": np.zeros(6, np.float32)}
    normal = b.op(p.LayerNorm, [rows], (127, 6), quant(0.1), **norm)
    program = b.finish(probable, normal)
    row = np.arange(1, 128, dtype=np.int8)[:, None] * np.array([1, -1, 1, -1, 1, -1], np.int8)
    sample = {pair: np.array([[0, -1]], np.int8), rows: row}
    outputs = run(program, sample)
    assert np.rint(table[0].astype(np.float32) / table.sum().astype(np.float32)) == 1 and outputs[probable][0, 0] == 0
    assert (np.abs(outputs[normal]) == 11).any(), "a single rounding makes all of them 12"
    report = verify(program, [sample], backends=["reference", "onnxruntime"])
    assert report.ok, report.problems()
