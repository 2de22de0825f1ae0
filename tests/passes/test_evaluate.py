# SPDX-License-Identifier: Apache-2.0
"""The float evaluator against ONNX Runtime, one operator at a time."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.errors import DataError
from edgekit.graph import Graph, Node, Port, Value
from edgekit.passes import evaluate
from tests.onnx_runtime import right_since_1_24

NHWC, NCHW = (0, 2, 3, 1), (0, 3, 1, 2)


def onnx_runtime(op: str, inputs: list[np.ndarray], constants: int = 0, **attributes) -> np.ndarray:
    """Runs one ONNX operator; the last `constants` inputs are initializers."""
    names = [f"i{i}" for i in range(len(inputs))]
    fed = len(inputs) - constants
    infos = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in zip(names, inputs, strict=False)]
    graph = helper.make_graph(
        [helper.make_node(op, names, ["y"], **attributes)], "g", infos[:fed],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(a, n) for n, a in zip(names[fed:], inputs[fed:], strict=False)],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip(names[:fed], inputs[:fed], strict=False)))[0]


def run_node(op: str, arrays: list[np.ndarray], shape: tuple[int, ...], **attrs) -> np.ndarray:
    return evaluate.evaluate_node(Node(op, op, [], [], attrs), arrays, shape)


def window(rng: np.random.Generator, kernel: tuple[int, int]) -> dict:
    """Random strides, dilations and pads; a pad is smaller than the kernel, as ONNX Runtime asks."""
    pads = tuple(int(rng.integers(0, k)) for k in (*kernel, *kernel))
    return {"strides": (int(rng.integers(1, 4)), int(rng.integers(1, 3))), "dilations": (1, 1), "pads": pads}


@pytest.mark.parametrize("seed", range(12))
def test_conv(seed):
    rng = np.random.default_rng(seed)
    groups = int(rng.integers(1, 4))
    x = rng.standard_normal((1, groups * 2, 9, 8)).astype(np.float32)
    kernel = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    w = rng.standard_normal((groups * 3, 2, *kernel)).astype(np.float32)
    b = rng.standard_normal(groups * 3).astype(np.float32)
    attrs = window(rng, kernel) | {"dilations": (int(rng.integers(1, 3)), int(rng.integers(1, 3)))}
    expected = onnx_runtime("Conv", [x, w, b], group=groups, **attrs).transpose(NHWC)
    got = run_node("Conv", [x.transpose(NHWC), w.transpose(NHWC), b], expected.shape, groups=groups, **attrs)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_depthwise_conv(seed):
    rng = np.random.default_rng(seed)
    multiplier = int(rng.integers(1, 4))
    x = rng.standard_normal((1, 4, 7, 8)).astype(np.float32)
    kernel = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    w = rng.standard_normal((4 * multiplier, 1, *kernel)).astype(np.float32)
    b = rng.standard_normal(4 * multiplier).astype(np.float32)
    attrs = window(rng, kernel)
    expected = onnx_runtime("Conv", [x, w, b], group=4, **attrs).transpose(NHWC)
    arrays = [x.transpose(NHWC), w[:, 0].transpose(1, 2, 0), b]
    got = run_node("DepthwiseConv", arrays, expected.shape, **attrs)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("op", ["MaxPool", pytest.param("AveragePool", marks=right_since_1_24)])
@pytest.mark.parametrize("seed", range(16))
def test_pool(op, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((1, 3, 9, 8)).astype(np.float32)
    kernel = (int(rng.integers(1, 5)), int(rng.integers(1, 5)))
    attrs = window(rng, kernel)
    onnx_attrs = {**attrs, "kernel_shape": kernel, "ceil_mode": seed % 2}
    if op == "AveragePool":
        onnx_attrs["count_include_pad"] = seed // 2 % 2
        attrs["count_include_pad"] = bool(seed // 2 % 2)
        del onnx_attrs["dilations"]
    expected = onnx_runtime(op, [x], **onnx_attrs).transpose(NHWC)
    got = run_node(op, [x.transpose(NHWC)], expected.shape, kernel=kernel, **attrs)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_values_that_move():
    x = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    sliced = run_node("Slice", [x], (1, 2, 2, 2), starts=(0, 1, 2, 0), steps=(1, -1, -1, 3))
    np.testing.assert_array_equal(sliced, x[:, ::-1, 2:0:-1, ::3])
    padded = run_node("Pad", [x], (1, 3, 3, 6), before=(0, 1, 0, 0), after=(0, 0, 0, 2), value=5.0)
    np.testing.assert_array_equal(padded, np.pad(x, ((0, 0), (1, 0), (0, 0), (0, 2)), constant_values=5))
    resized = run_node("ResizeNearest", [x], (1, 4, 2, 4), rows=np.array([0, 0, 1, 1]), cols=np.array([2, 0]))
    np.testing.assert_array_equal(resized, x[:, [0, 0, 1, 1]][:, :, [2, 0]])


def test_softmax_prelu_and_clip():
    x = np.array([[-2.0, 0.0, 3.0]], dtype=np.float32)
    np.testing.assert_allclose(run_node("Softmax", [x], x.shape), onnx_runtime("Softmax", [x]), rtol=1e-6)
    slope = np.array([0.5, 2.0, 3.0], dtype=np.float32)
    np.testing.assert_array_equal(run_node("PRelu", [x, slope], x.shape), [[-1, 0, 3]])
    np.testing.assert_array_equal(run_node("Add", [x, x], x.shape, clip=(-1.0, 4.0)), [[-1, 0, 4]])


def small_graph() -> Graph:
    graph = Graph("g", [Port("x", (1, 3), "x")], [Port("y", (1, 3), "y")])
    graph.values = {
        "x": Value("x", (1, 3)),
        "k": Value("k", (3,), np.array([1, 2, 3], dtype=np.float32)),
        "y": Value("y", (1, 3)),
    }
    graph.nodes = [Node("Mul", "m", ["x", "k"], ["y"])]
    return graph


def test_evaluate_returns_every_value():
    values = evaluate.evaluate(small_graph(), {"x": [[1, 1, 2]]}, np.float64)
    assert set(values) == {"x", "k", "y"} and values["y"].dtype == np.float64
    assert evaluate.outputs(small_graph(), values)["y"].tolist() == [[1, 2, 6]]


@pytest.mark.parametrize("inputs", [{}, {"x": np.zeros((3, 1))}])
def test_bad_input_is_named(inputs):
    with pytest.raises(DataError, match="input 'x'"):
        evaluate.evaluate(small_graph(), inputs)
