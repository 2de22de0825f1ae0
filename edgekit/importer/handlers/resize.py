# SPDX-License-Identifier: Apache-2.0
"""Nearest-neighbour resizing."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from edgekit.importer.context import Context, OnnxNode
from edgekit.importer.handlers.window import image_view
from edgekit.importer.registry import Unsupported, handler
from edgekit.importer.session import create_session

RESTRICTIONS = "mode nearest; height and width of [N,C,H,W], or length of [N,C,L]; constant scales or sizes"


@handler("Upsample", since=7, becomes="ResizeNearest", restrictions=f"{RESTRICTIONS}; gone in opset 10")
def upsample(ctx: Context, node: OnnxNode) -> None:
    _resize(ctx, node, scales_input=1)


@handler("Resize", since=10, becomes="ResizeNearest", restrictions=f"{RESTRICTIONS}; no tf_crop_and_resize")
def resize(ctx: Context, node: OnnxNode) -> None:
    if node.attrs.get("exclude_outside", 0) or node.attrs.get("antialias", 0):
        raise Unsupported(
            "exclude_outside and antialias need interpolation", "leave them out in mode nearest"
        )
    if node.attrs.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        raise Unsupported("coordinate mode 'tf_crop_and_resize' is not supported", "use Slice, then Resize")
    if node.attrs.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Unsupported("keep_aspect_ratio_policy is set", "give the resulting sizes themselves")
    _resize(ctx, node, scales_input=1 if node.opset < 11 else 2)


def _resize(ctx: Context, node: OnnxNode, scales_input: int) -> None:
    mode = node.attrs.get("mode", "nearest")
    if mode != "nearest":
        raise Unsupported(f"mode '{mode}' interpolates", "use mode='nearest'")
    x, y = node.inputs[0], node.output
    x_perm, x_view = image_view(ctx, x)
    y_perm, y_view = image_view(ctx, y)
    scales = _scales(ctx, node, scales_input)
    if any(s not in (None, 1) for s in scales[:2]) or (x_view[0], x_view[3]) != (y_view[0], y_view[3]):
        raise Unsupported("it resizes the batch or the channels", "resize only height and width")
    spatial = [None, scales[2]] if len(scales) == 3 else scales[2:]
    rows, cols = (
        source_indexes(node, n_in, n_out, scale)
        for n_in, n_out, scale in zip(x_view[1:3], y_view[1:3], spatial, strict=True)
    )
    attrs = {"rows": rows, "cols": cols}
    ctx.give(y, "ResizeNearest", [ctx.take(x, x_perm, x_view)], attrs, perm=y_perm, shape=y_view)


def _scales(ctx: Context, node: OnnxNode, index: int) -> list[float | None]:
    """The factor of every dimension; None where the size is given instead."""
    scales: list[float | None] = [None] * ctx.rank(node.inputs[0])
    if node.input(index) is None:
        if node.input(index + 1):
            ctx.require_constant(node.inputs[index + 1], "sizes")
        return scales
    given = ctx.require_constant(node.inputs[index], "scales").reshape(-1)
    if given.size:
        for axis, factor in zip(node.attrs.get("axes", range(len(scales))), given, strict=True):
            scales[axis] = float(factor)
    return scales


def source_indexes(node: OnnxNode, n_in: int, n_out: int, scale: float | None) -> np.ndarray:
    """For every output index of one dimension the input index whose value it takes.

    ONNX defines positions in real numbers and ONNX Runtime has its own idea of what is a tie once they
    are rounded, so it is asked: it resizes the indexes themselves.

    Returns:
        int64 [n_out], each in [0, n_in).
    """
    if scale is None and n_in == n_out:
        return np.arange(n_in, dtype=np.int64)
    names = ("coordinate_transformation_mode", "nearest_mode")
    attrs = {k: node.attrs[k] for k in names if k in node.attrs}
    empty = np.zeros(0, np.float32)
    constants = {"scales": empty if scale is None else np.array([1, 1, 1, scale], np.float32)}
    inputs = ["x", "scales"]
    if node.opset >= 11:
        constants["roi"] = empty
        inputs = ["x", "roi", "scales"]
        if scale is None:
            constants["sizes"] = np.array([1, 1, 1, n_out], np.int64)
            inputs.append("sizes")
    graph = helper.make_graph(
        [helper.make_node(node.op, inputs, ["y"], mode="nearest", **attrs)],
        "indexes",
        [helper.make_tensor_value_info("x", TensorProto.INT32, [1, 1, 1, n_in])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, None)],
        [numpy_helper.from_array(data, name) for name, data in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", node.opset)], ir_version=8)
    x = np.arange(n_in, dtype=np.int32).reshape(1, 1, 1, n_in)
    try:
        (result,) = create_session(model).run(None, {"x": x})
    except Exception:
        raise Unsupported("ONNX Runtime refuses its attributes", "export the model again") from None
    indexes = result.reshape(-1).astype(np.int64)
    if indexes.size != n_out or not ((indexes >= 0) & (indexes < n_in)).all():
        raise Unsupported("its size is ambiguous", "give the resulting sizes instead of scales")
    return indexes
