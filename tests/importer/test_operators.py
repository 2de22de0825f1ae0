# SPDX-License-Identifier: Apache-2.0
"""Each handler against ONNX Runtime, tensor by tensor."""

from __future__ import annotations

import itertools
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgekit.errors import ModelError
from edgekit.importer.handlers.activation import SINCE
from edgekit.importer.registry import HANDLERS
from edgekit.passes.unary import FUNCTIONS
from tests.importer.tapped import compare, import_model, model, node, ops
from tests.onnx_runtime import need_opset, right_since_1_24


def check(
    folder: Path, op: str, inputs: dict[str, Any], constants: dict[str, Any] | None = None, **options: Any
):
    """One node: the names of `inputs` and `constants` in order are its operands; '' leaves one out."""
    constants = constants or {}
    operands = options.pop("operands", [*inputs, *constants])
    opset, outs = options.pop("opset", 17), options.pop("outs", ["y"])
    spread = {k: options.pop(k) for k in ("low", "high", "tolerance") if k in options}
    proto = model([node(op, operands, outs, **options)], inputs, outs, constants, opset)
    imported = import_model(folder, proto)
    compare(imported, zlib.crc32(repr((op, operands, options)).encode()), **spread)
    return imported


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


CONV_2D = [
    {"kernel": (3, 3)},
    {"kernel": (3, 3), "pads": [1, 1, 1, 1]},
    {"kernel": (3, 2), "pads": [0, 1, 2, 0], "strides": [2, 1]},
    {"kernel": (10, 4), "pads": [4, 1, 5, 1], "strides": [2, 2]},
    {"kernel": (3, 3), "dilations": [2, 3], "pads": [2, 3, 2, 3]},
    {"kernel": (1, 1), "strides": [3, 2]},
    {"kernel": (5, 3), "auto_pad": "SAME_UPPER", "strides": [2, 3]},
    {"kernel": (4, 2), "auto_pad": "SAME_LOWER", "strides": [2, 3]},
    {"kernel": (2, 2), "auto_pad": "SAME_LOWER"},
    {"kernel": (3, 3), "auto_pad": "SAME_UPPER", "dilations": [2, 1], "strides": [1, 2]},
    {"kernel": (3, 3), "auto_pad": "VALID", "strides": [2, 2]},
]


@pytest.mark.parametrize("case", CONV_2D, ids=str)
@pytest.mark.parametrize("groups, out", [(1, 5), (2, 4), (6, 6), (6, 12)])
def test_conv_2d(tmp_path: Path, case: dict[str, Any], groups: int, out: int) -> None:
    attrs = dict(case)
    kernel = attrs.pop("kernel")
    weights = {"w": random(out, 6 // groups, *kernel)}
    if out % 4 == 0:
        weights["b"] = random(out)
    imported = check(tmp_path, "Conv", {"x": [2, 6, 12, 11]}, weights, group=groups, **attrs)
    assert ops(imported) == ["Transpose", "DepthwiseConv" if groups == 6 else "Conv", "Transpose"]


@pytest.mark.parametrize(
    "attrs",
    [
        {},
        {"pads": [1, 2], "strides": [2]},
        {"dilations": [3]},
        {"auto_pad": "SAME_UPPER", "strides": [2]},
        {"auto_pad": "SAME_LOWER"},
        {"group": 4},
    ],
    ids=str,
)
def test_conv_1d(tmp_path: Path, attrs: dict[str, Any]) -> None:
    weights = {"w": random(8, 4 // attrs.get("group", 1), 3), "b": random(8)}
    check(tmp_path, "Conv", {"x": [1, 4, 13]}, weights, **attrs)


def test_conv_with_one_channel_in_one_group_is_no_depthwise(tmp_path: Path) -> None:
    imported = check(tmp_path, "Conv", {"x": [1, 1, 8, 8]}, {"w": random(4, 1, 3, 3)})
    assert "Conv" in ops(imported)


POOLS = [
    {"kernel_shape": [2, 2]},
    {"kernel_shape": [3, 2], "strides": [2, 3]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 1, 2, 0]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [2, 3], "strides": [3, 4], "ceil_mode": 1, "pads": [1, 1, 0, 1]},
    {"kernel_shape": [2, 2], "strides": [3, 3], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]},
    {"kernel_shape": [2, 4], "auto_pad": "SAME_LOWER", "strides": [2, 3]},
    {"kernel_shape": [3, 3], "auto_pad": "VALID", "strides": [2, 2]},
]
INPUTS = [[1, 3, 9, 10], [2, 4, 11, 7]]


@pytest.mark.parametrize("shape", INPUTS, ids=str)
@pytest.mark.parametrize(
    "attrs", [*POOLS, {"kernel_shape": [2, 3], "dilations": [3, 2], "strides": [2, 1]}], ids=str
)
def test_max_pool(tmp_path: Path, attrs: dict[str, Any], shape: list[int]) -> None:
    check(tmp_path, "MaxPool", {"x": shape}, **attrs)


@pytest.mark.parametrize("shape", INPUTS, ids=str)
@pytest.mark.parametrize("attrs", POOLS, ids=str)
@pytest.mark.parametrize("include", [0, 1])
@pytest.mark.parametrize("opset", [11, 22])
@right_since_1_24
def test_average_pool(
    tmp_path: Path, attrs: dict[str, Any], include: int, shape: list[int], opset: int
) -> None:
    check(tmp_path, "AveragePool", {"x": shape}, count_include_pad=include, opset=opset, **attrs)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("ceil", [0, 1])
def test_pool_1d(tmp_path: Path, op: str, ceil: int) -> None:
    check(tmp_path, op, {"x": [2, 3, 12]}, kernel_shape=[3], strides=[2], pads=[1, 0], ceil_mode=ceil)


def test_average_pool_with_dilations(tmp_path: Path) -> None:
    check(tmp_path, "AveragePool", {"x": [1, 2, 9, 9]}, opset=19, kernel_shape=[3, 2], dilations=[2, 3])


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("shape", [[2, 3, 5, 4], [1, 4, 7]], ids=str)
def test_global_pool(tmp_path: Path, op: str, shape: list[int]) -> None:
    check(tmp_path, op, {"x": shape})


GEMM_OPERANDS = [
    *itertools.product([None, (), (1,), (5,), (1, 5), (3, 1), (3, 5)], ["a", "b", "ab"]),
    *itertools.product([(1,), (5,), (1, 5), (3, 1), (3, 5)], ["ac", "abc"]),
]


@pytest.mark.parametrize(
    "trans_a, trans_b, alpha, beta",
    [(*t, *s) for t in itertools.product((0, 1), (0, 1)) for s in ((1.0, 1.0), (0.5, -2.0))],
)
@pytest.mark.parametrize("c_shape, computed", GEMM_OPERANDS, ids=str)
def test_gemm(tmp_path: Path, trans_a, trans_b, alpha, beta, c_shape, computed) -> None:
    shapes = {"a": (4, 3) if trans_a else (3, 4), "b": (5, 4) if trans_b else (4, 5)}
    if c_shape is not None:
        shapes["c"] = c_shape
    inputs = {k: list(v) for k, v in shapes.items() if k in computed}
    constants = {k: random(*v) for k, v in shapes.items() if k not in computed}
    attrs = {"transA": trans_a, "transB": trans_b, "alpha": alpha, "beta": beta, "operands": list(shapes)}
    check(tmp_path, "Gemm", inputs, constants, **attrs)


MATMULS = [
    ((2, 3), (3, 4)),
    ((2, 3, 4), (4, 5)),
    ((1, 2, 3, 4), (4, 5)),
    ((1, 3, 4), (1, 4, 5)),
    ((2, 3, 4), (2, 4, 5)),
    ((2, 1, 3, 4), (3, 4, 5)),
    ((3, 4), (2, 4, 5)),
    ((4,), (4, 5)),
    ((3, 4), (4,)),
    ((2, 3, 4), (4,)),
    ((4,), (2, 4, 5)),
    ((1, 1, 3, 4), (4, 5)),
]


@pytest.mark.parametrize("a, b", MATMULS, ids=str)
@pytest.mark.parametrize("computed", ["a", "b", "ab"])
def test_matmul(tmp_path: Path, a: tuple[int, ...], b: tuple[int, ...], computed: str) -> None:
    shapes = {"a": a, "b": b}
    inputs = {k: list(v) for k, v in shapes.items() if k in computed}
    constants = {k: random(*v) for k, v in shapes.items() if k not in computed}
    imported = check(tmp_path, "MatMul", inputs, constants, operands=["a", "b"])
    if computed == "a" and len(b) <= 2:
        assert "Dense" in ops(imported)


DOMAINS = {"Log": (0.1, 4.0), "Sqrt": (0.0, 9.0), "Reciprocal": (0.3, 3.0)}


@pytest.mark.parametrize("op", sorted(op for op in SINCE if not FUNCTIONS[op].defaults))
def test_unary(tmp_path: Path, op: str) -> None:
    low, high = DOMAINS.get(op, (-4.0, 4.0))
    opset = max(17, SINCE[op])
    imported = check(tmp_path, op, {"x": [2, 3, 5, 4]}, opset=opset, low=low, high=high)
    assert ops(imported) == ["Unary"]


@pytest.mark.parametrize("op", sorted(op for op in SINCE if FUNCTIONS[op].defaults))
@pytest.mark.parametrize("explicit", [False, True])
def test_unary_with_attributes(tmp_path: Path, op: str, explicit: bool) -> None:
    need_opset(SINCE[op])
    attrs = {k: v * 1.25 for k, v in FUNCTIONS[op].defaults.items()} if explicit else {}
    check(tmp_path, op, {"x": [2, 3, 5]}, opset=max(17, SINCE[op]), **attrs)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu(tmp_path: Path, approximate: str) -> None:
    check(tmp_path, "Gelu", {"x": [3, 7]}, opset=20, approximate=approximate)


@pytest.mark.parametrize("attrs", [{}, {"min": 0.0}, {"max": 1.5}, {"min": -1.0, "max": 0.5}], ids=str)
def test_clip_with_attributes(tmp_path: Path, attrs: dict[str, float]) -> None:
    check(tmp_path, "Clip", {"x": [3, 7]}, opset=10, **attrs)


@pytest.mark.parametrize("low, high", [(0.0, 6.0), (None, 1.0), (-1.0, None), (0.0, np.inf), (2.0, 1.0)])
def test_clip_with_inputs(tmp_path: Path, low: float | None, high: float | None) -> None:
    constants = {k: np.float32(v) for k, v in (("lo", low), ("hi", high)) if v is not None}
    operands = ["x", "lo" if low is not None else "", "hi" if high is not None else ""]
    check(tmp_path, "Clip", {"x": [3, 7]}, constants, operands=operands)


@pytest.mark.parametrize(
    "x, slope",
    [((1, 3, 4, 5), (3, 1, 1)), ((2, 3, 6), (3, 1)), ((2, 6), (6,)), ((2, 3, 4, 5), (1,)), ((2, 4, 6), (6,))],
)
def test_prelu(tmp_path: Path, x: tuple[int, ...], slope: tuple[int, ...]) -> None:
    check(tmp_path, "PRelu", {"x": list(x)}, {"slope": random(*slope)})


BROADCASTS = [
    ((2, 3, 4), ()),
    ((2, 3, 4), (1,)),
    ((2, 3, 4), (1, 1, 1, 1)),
    ((1, 3, 4, 5), (3, 1, 1)),
    ((1, 3, 4, 5), (1, 3, 1, 1)),
    ((2, 4), (4,)),
    ((1, 4), (3, 4)),
    ((3, 4), (2, 3, 4)),
    ((2, 3, 4), (2, 3, 4)),
]


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("shape, constant", BROADCASTS, ids=str)
@pytest.mark.parametrize("constant_first", [False, True])
def test_arithmetic_with_constant(tmp_path: Path, op: str, shape, constant, constant_first: bool) -> None:
    c = np.asarray(random(*constant)) + np.float32(1.5)
    operands = ["c", "x"] if constant_first else ["x", "c"]
    check(tmp_path, op, {"x": list(shape)}, {"c": c}, operands=operands, low=0.5, high=2.0)


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul"])
@pytest.mark.parametrize("a, b", [((2, 3, 4), (2, 3, 4)), ((2, 3, 4), (3, 1)), ((4,), (2, 1, 4))], ids=str)
def test_arithmetic(tmp_path: Path, op: str, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    check(tmp_path, op, {"a": list(a), "b": list(b)})


@pytest.mark.parametrize("exponent", [2.0, 3.0, 0.5, -1.0])
def test_pow(tmp_path: Path, exponent: float) -> None:
    check(tmp_path, "Pow", {"x": [3, 4]}, {"e": np.float32(exponent)}, low=0.5, high=2.0)


def test_pow_of_constant(tmp_path: Path) -> None:
    check(tmp_path, "Pow", {"x": [3, 4]}, {"e": np.float32(1.7)}, operands=["e", "x"], tolerance=1e-5)


@pytest.mark.parametrize("op", ["Sum", "Mean"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_variadic(tmp_path: Path, op: str, count: int) -> None:
    shapes = [[2, 3], [3], [2, 1], [1, 3]]
    check(tmp_path, op, {f"x{i}": shapes[i] for i in range(count)})


@pytest.mark.parametrize("op", ["Max", "Min"])
def test_limit(tmp_path: Path, op: str) -> None:
    check(tmp_path, op, {"x": [3, 4]}, {"c": np.float32(0.5), "d": np.array([0.25], np.float32)})


@pytest.mark.parametrize("shape", [[2, 3, 4, 5], [2, 3, 7], [4, 3]], ids=str)
@pytest.mark.parametrize("opset", [9, 14, 15])
def test_batch_normalization(tmp_path: Path, shape: list[int], opset: int) -> None:
    c = shape[1]
    parameters = {
        "g": random(c),
        "b": random(c, seed=1),
        "m": random(c, seed=2),
        "v": np.abs(random(c, seed=3)),
    }
    imported = check(
        tmp_path, "BatchNormalization", {"x": shape}, parameters, opset=opset, epsilon=0.01, tolerance=1e-5
    )
    stats = imported.graph.batch_norm_stats
    result = next(n for n in imported.graph.nodes if n.op == "Add").outputs[0]
    assert np.array_equal(stats[result][0], parameters["b"])
    assert np.array_equal(stats[result][1], np.abs(parameters["g"]))
    source = next(n for n in imported.graph.nodes if n.op == "Mul").inputs[0]
    assert np.allclose(stats[source][1], np.sqrt(parameters["v"] + 0.01))
    assert imported.graph.values[result].shape[-1] == c


@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1, -2])
@pytest.mark.parametrize("opset", [11, 13])
def test_softmax(tmp_path: Path, axis: int | None, opset: int) -> None:
    attrs = {} if axis is None else {"axis": axis}
    check(tmp_path, "Softmax", {"x": [2, 3, 5]}, opset=opset, **attrs)


@pytest.mark.parametrize("axis, bias", [(-1, True), (2, False), (1, True), (-3, True)])
def test_layer_normalization(tmp_path: Path, axis: int, bias: bool) -> None:
    shape = [2, 3, 4, 5][axis:]
    constants = {"scale": random(*shape)} | ({"bias": random(*shape, seed=1)} if bias else {})
    imported = check(tmp_path, "LayerNormalization", {"x": [2, 3, 4, 5]}, constants, axis=axis, epsilon=1e-3)
    assert ops(imported).count("LayerNorm") == 1


def test_a_last_input_left_out_by_an_empty_name(tmp_path: Path) -> None:
    """ONNX Runtime ends the process where it is given such a LayerNormalization."""
    constants = {"scale": random(5)}
    proto = model([node("LayerNormalization", ["x", "scale", ""])], {"x": [2, 5]}, ["y"], constants)
    imported = import_model(tmp_path, proto)
    assert list(imported.model.graph.node[0].input) == ["x", "scale"]
    compare(imported, 1)


def test_layer_normalization_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="scale is computed at run time"):
        check(tmp_path, "LayerNormalization", {"x": [2, 5], "scale": [5]})
    with pytest.raises(ModelError, match="Mean and InvStdDev are used"):
        check(tmp_path, "LayerNormalization", {"x": [2, 5]}, {"scale": random(5)}, outs=["y", "mean"])


@pytest.mark.parametrize("op", ["ReduceMean", "ReduceMax", "ReduceSum"])
@pytest.mark.parametrize("axes", [[2, 3], [-1, -2], [1], [0, 2], [1, 3], None, [3]], ids=str)
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("opset", [11, 18])
def test_reduce(tmp_path: Path, op: str, axes: list[int] | None, keepdims: int, opset: int) -> None:
    attrs: dict[str, Any] = {"keepdims": keepdims, "opset": opset}
    constants = {}
    if axes is not None and opset == 18:
        constants["axes"] = np.array(axes, np.int64)
    elif axes is not None:
        attrs["axes"] = axes
    check(tmp_path, op, {"x": [2, 3, 4, 5]}, constants, **attrs)


@right_since_1_24
def test_reduce_of_nothing(tmp_path: Path) -> None:
    check(tmp_path, "ReduceMean", {"x": [2, 3]}, opset=18, noop_with_empty_axes=1)


TRANSFORMS = ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"]
ROUNDINGS = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]
SCALES = [(2.0, 2.0), (1.5, 0.6), (0.5, 3.0), (1.3, 2.7), (1.0, 0.25)]


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("scales", SCALES, ids=str)
def test_resize_by_scales(tmp_path: Path, transform: str, rounding: str, scales: tuple[float, float]) -> None:
    constants = {"scales": np.array([1, 1, *scales], np.float32)}
    attrs = {"coordinate_transformation_mode": transform, "nearest_mode": rounding, "mode": "nearest"}
    check(
        tmp_path, "Resize", {"x": [1, 2, 7, 10]}, constants, operands=["x", "", "scales"], opset=19, **attrs
    )


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("transform", [*TRANSFORMS, "tf_half_pixel_for_nn"])
@pytest.mark.parametrize("size", [(14, 20), (1, 1), (5, 13), (21, 3), (9, 7)], ids=str)
def test_resize_by_sizes(tmp_path: Path, transform: str, rounding: str, size: tuple[int, int]) -> None:
    constants = {"sizes": np.array([1, 2, *size], np.int64)}
    attrs = {"coordinate_transformation_mode": transform, "nearest_mode": rounding, "mode": "nearest"}
    opset = 11 if transform == "tf_half_pixel_for_nn" else 13
    roi = "roi" if opset == 11 else ""
    if roi:
        constants = {"roi": np.zeros(0, np.float32), "scales": np.zeros(0, np.float32), **constants}
    operands = ["x", roi, "scales" if roi else "", "sizes"]
    if transform == "half_pixel_symmetric":
        opset = 19
    check(tmp_path, "Resize", {"x": [1, 2, 7, 10]}, constants, operands=operands, opset=opset, **attrs)


def test_resize_of_chosen_axes(tmp_path: Path) -> None:
    check(
        tmp_path, "Resize", {"x": [1, 2, 7, 10]}, {"s": np.array([3, 2], np.float32)},
        operands=["x", "", "s"], opset=18, axes=[3, 2],
    )  # fmt: skip


def test_resize_1d(tmp_path: Path) -> None:
    check(
        tmp_path,
        "Resize",
        {"x": [1, 2, 7]},
        {"s": np.array([1, 1, 2.5], np.float32)},
        operands=["x", "", "s"],
    )


@pytest.mark.parametrize("scales", SCALES, ids=str)
def test_resize_opset_10(tmp_path: Path, scales: tuple[float, float]) -> None:
    check(tmp_path, "Resize", {"x": [1, 2, 7, 10]}, {"s": np.array([1, 1, *scales], np.float32)}, opset=10)


@pytest.mark.parametrize("scales", [(2.0, 2.0), (1.5, 3.5), (1.0, 2.0)], ids=str)
def test_upsample(tmp_path: Path, scales: tuple[float, float]) -> None:
    check(tmp_path, "Upsample", {"x": [1, 2, 7, 10]}, {"s": np.array([1, 1, *scales], np.float32)}, opset=9)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_resize_near_ties(tmp_path: Path, transform: str, rounding: str) -> None:
    """28 to 31 and the like put positions one ulp beside one half."""
    attrs = {"coordinate_transformation_mode": transform, "nearest_mode": rounding, "mode": "nearest"}
    for n_in, n_out in ((28, 31), (23, 57), (13, 4), (14, 2)):
        constants = {"sizes": np.array([1, 2, n_out, n_in], np.int64)}
        operands = ["x", "", "", "sizes"]
        check(tmp_path, "Resize", {"x": [1, 2, n_in, n_out]}, constants, operands=operands, opset=19, **attrs)


def test_ambiguous_size_is_refused(tmp_path: Path) -> None:
    scales = {"s": np.array([1, 1, 1, 3.3], np.float32)}
    with pytest.raises(ModelError, match="its size is ambiguous; give the resulting sizes"):
        check(tmp_path, "Upsample", {"x": [1, 2, 7, 10]}, scales, opset=9)


@pytest.mark.parametrize("target", [[4, -1], [0, 3, -1], [-1], [1, 2, 3, 4, 5, 1]], ids=str)
def test_reshape(tmp_path: Path, target: list[int]) -> None:
    check(tmp_path, "Reshape", {"x": [2, 3, 4, 5]}, {"s": np.array(target, np.int64)})


@pytest.mark.parametrize("axis", [0, 1, 2, 4, -1])
def test_flatten(tmp_path: Path, axis: int) -> None:
    check(tmp_path, "Flatten", {"x": [2, 3, 4, 5]}, axis=axis)


@pytest.mark.parametrize("axes", [None, [0], [-2, 0]], ids=str)
@pytest.mark.parametrize("opset", [11, 13])
def test_squeeze(tmp_path: Path, axes: list[int] | None, opset: int) -> None:
    by_input = axes is not None and opset >= 13
    constants = {"axes": np.array(axes, np.int64)} if by_input else {}
    attrs = {"axes": axes} if axes is not None and not by_input else {}
    if opset < 13 and axes and min(axes) < 0:
        attrs["axes"] = [a % 4 for a in axes]
    check(tmp_path, "Squeeze", {"x": [1, 3, 1, 5]}, constants, opset=opset, **attrs)


@pytest.mark.parametrize("opset", [11, 13])
def test_unsqueeze(tmp_path: Path, opset: int) -> None:
    constants = {"axes": np.array([0, 3], np.int64)} if opset >= 13 else {}
    check(
        tmp_path,
        "Unsqueeze",
        {"x": [2, 3]},
        constants,
        opset=opset,
        **({} if constants else {"axes": [0, 3]}),
    )


@pytest.mark.parametrize("perm", [None, [0, 2, 3, 1], [3, 0, 2, 1], [0, 1, 2, 3]], ids=str)
def test_transpose(tmp_path: Path, perm: list[int] | None) -> None:
    check(tmp_path, "Transpose", {"x": [2, 3, 4, 5]}, **({} if perm is None else {"perm": perm}))


@pytest.mark.parametrize("op", ["Identity", "Dropout"])
def test_vanishing(tmp_path: Path, op: str) -> None:
    proto = model([node("Relu", ["x"], ["r"]), node(op, ["r"], ["i"]), node("Neg", ["i"])], {"x": [2, 3]})
    imported = import_model(tmp_path, proto)
    compare(imported, 1)
    assert ops(imported) == ["Unary", "Unary"]


def test_identity_between_input_and_output(tmp_path: Path) -> None:
    imported = check(tmp_path, "Identity", {"x": [2, 3]})
    assert ops(imported) == []
    assert imported.graph.outputs[0].name == "y"


def test_cast(tmp_path: Path) -> None:
    imported = check(tmp_path, "Cast", {"x": [2, 3]}, to=onnx.TensorProto.FLOAT)
    assert ops(imported) == []


@pytest.mark.parametrize("axis", [1, -1])
def test_concat(tmp_path: Path, axis: int) -> None:
    shapes = {"a": [2, 3, 4], "b": [2, 1, 4] if axis == 1 else [2, 3, 1], "c": [2, 3, 4]}
    check(tmp_path, "Concat", shapes, axis=axis)


def test_concat_with_constant(tmp_path: Path) -> None:
    check(tmp_path, "Concat", {"a": [2, 3]}, {"c": random(2, 2)}, axis=1)


@pytest.mark.parametrize("axis", [1, -1, 0])
@pytest.mark.parametrize("form", ["attribute", "input", "even", "num_outputs"])
def test_split(tmp_path: Path, axis: int, form: str) -> None:
    sizes = [1, 3, 2] if form in ("attribute", "input") else [2, 2, 2]
    shape = [6, 6, 6]
    if form == "num_outputs":
        shape[axis] = 5
    opset = {"attribute": 11, "input": 13, "even": 13, "num_outputs": 18}[form]
    attrs: dict[str, Any] = {"axis": axis, "opset": opset, "outs": ["p", "q", "r"]}
    if form == "attribute":
        attrs["split"] = sizes
    if form == "num_outputs":
        attrs["num_outputs"] = 3
    check(
        tmp_path, "Split", {"x": shape}, {"s": np.array(sizes, np.int64)} if form == "input" else {}, **attrs
    )


SLICES = [
    {"starts": [1], "ends": [3]},
    {"starts": [1, 0], "ends": [2**31, -1], "axes": [1, 3]},
    {"starts": [-1], "ends": [-(2**31)], "axes": [2], "steps": [-1]},
    {"starts": [-2], "ends": [0], "axes": [-1], "steps": [-2]},
    {"starts": [0, 1], "ends": [100, 100], "axes": [2, 3], "steps": [2, 3]},
    {"starts": [100], "ends": [-100], "axes": [3], "steps": [-3]},
    {"starts": [0], "ends": [2], "axes": [0], "steps": [1]},
]


@pytest.mark.parametrize("case", SLICES, ids=str)
def test_slice(tmp_path: Path, case: dict[str, list[int]]) -> None:
    check(tmp_path, "Slice", {"x": [2, 4, 6, 7]}, {k: np.array(v, np.int64) for k, v in case.items()})


def test_slice_opset_9(tmp_path: Path) -> None:
    check(tmp_path, "Slice", {"x": [2, 4, 6]}, opset=9, starts=[1, -2], ends=[2**31 - 1, 5], axes=[0, 2])


@pytest.mark.parametrize(
    "pads, value",
    [
        ([0, 0, 1, 2, 0, 0, 3, 0], 0.0),
        ([0, 1, 0, 0, 1, 0, 0, 2], -1.5),
        ([0, 0, -1, 1, 0, 0, 2, -2], 0.5),
        ([0, 0, -1, 0, 0, 0, 0, -2], 0.0),
        ([0] * 8, 1.0),
    ],
    ids=str,
)
@pytest.mark.parametrize("opset", [10, 13])
def test_pad(tmp_path: Path, pads: list[int], value: float, opset: int) -> None:
    if opset == 10:
        check(tmp_path, "Pad", {"x": [1, 2, 5, 6]}, opset=10, pads=pads, value=value)
    else:
        constants = {"p": np.array(pads, np.int64), "v": np.float32(value)}
        check(tmp_path, "Pad", {"x": [1, 2, 5, 6]}, constants, opset=opset)


def test_pad_of_chosen_axes(tmp_path: Path) -> None:
    constants = {"p": np.array([1, 0, 0, 2], np.int64), "axes": np.array([-1, 1], np.int64)}
    check(tmp_path, "Pad", {"x": [1, 2, 5, 6]}, constants, operands=["x", "p", "", "axes"], opset=18)


def test_expand_and_tile(tmp_path: Path) -> None:
    check(tmp_path, "Expand", {"x": [3, 1]}, {"s": np.array([2, 3, 4], np.int64)})
    check(tmp_path, "Expand", {"x": [3, 4]}, {"s": np.array([1, 4], np.int64)})
    check(tmp_path, "Tile", {"x": [2, 3]}, {"r": np.array([2, 3], np.int64)})
    check(tmp_path, "Tile", {"x": [2, 3]}, {"r": np.array([1, 1], np.int64)})


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(tmp_path: Path, mode: str) -> None:
    check(tmp_path, "DepthToSpace", {"x": [1, 12, 3, 4]}, opset=13, blocksize=2, mode=mode)


def test_space_to_depth(tmp_path: Path) -> None:
    check(tmp_path, "SpaceToDepth", {"x": [1, 3, 4, 6]}, opset=13, blocksize=2)


@pytest.mark.parametrize(
    "indices", [2, [0, 2, 4], [4, 3, 2], [-1], [0, 0, 1], [3, 1, 4, 1, 0], [[0, 1], [3, 2]]], ids=str
)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather(tmp_path: Path, indices: Any, axis: int) -> None:
    check(tmp_path, "Gather", {"x": [5, 6, 7]}, {"i": np.array(indices, np.int64)}, axis=axis)


def test_every_handler_is_tested() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    assert {op for op in HANDLERS if op not in SINCE and f'"{op}"' not in source} == set()
