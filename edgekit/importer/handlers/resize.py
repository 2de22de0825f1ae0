# SPDX-License-Identifier: Apache-2.0
"""Nearest-neighbour resizing."""

from __future__ import annotations

import numpy as np

from edgekit.importer.context import Context, OnnxNode
from edgekit.importer.handlers.window import image_view
from edgekit.importer.registry import Unsupported, handler

RESTRICTIONS = "mode nearest; height and width of [N,C,H,W], or length of [N,C,L]"


@handler("Upsample", since=7, becomes="ResizeNearest", restrictions=RESTRICTIONS)
def upsample(ctx: Context, node: OnnxNode) -> None:
    """Gone in opset 10; index = floor(i / scale)."""
    _resize(ctx, node, 1, "asymmetric", "floor")


@handler("Resize", since=10, becomes="ResizeNearest", restrictions=RESTRICTIONS + "; no crop_and_resize")
def resize(ctx: Context, node: OnnxNode) -> None:
    if node.opset < 11:
        _resize(ctx, node, 1, "asymmetric", "legacy")
        return
    if node.attrs.get("exclude_outside", 0) or node.attrs.get("antialias", 0):
        raise Unsupported(
            "exclude_outside and antialias need interpolation", "leave them out in mode nearest"
        )
    mode = node.attrs.get("coordinate_transformation_mode", "half_pixel")
    _resize(ctx, node, 2, mode, node.attrs.get("nearest_mode", "round_prefer_floor"))


def _resize(ctx: Context, node: OnnxNode, scales_input: int, transform: str, rounding: str) -> None:
    mode = node.attrs.get("mode", "nearest")
    if mode != "nearest":
        raise Unsupported(f"mode '{mode}' interpolates", "use mode='nearest'")
    if transform not in TRANSFORMS or rounding not in ROUNDINGS:
        raise Unsupported(
            f"coordinates '{transform}' with rounding '{rounding}'", "use the modes of docs/OPERATORS.md"
        )
    x, y = node.inputs[0], node.output
    x_perm, x_view = image_view(ctx, x)
    y_perm, y_view = image_view(ctx, y)
    scales = _scales(ctx, node, scales_input)
    if scales[0] != 1 or scales[1] != 1 or x_view[0] != y_view[0] or x_view[3] != y_view[3]:
        raise Unsupported("it resizes the batch or the channels", "resize only height and width")
    spatial = [np.float32(1), scales[2]] if len(scales) == 3 else list(scales[2:])
    rows, cols = (
        source_indexes(n_in, n_out, scale, transform, rounding)
        for n_in, n_out, scale in zip(x_view[1:3], y_view[1:3], spatial, strict=True)
    )
    attrs = {"rows": rows, "cols": cols}
    ctx.give(y, "ResizeNearest", [ctx.take(x, x_perm, x_view)], attrs, perm=y_perm, shape=y_view)


def _scales(ctx: Context, node: OnnxNode, index: int) -> list[np.float32]:
    """One binary32 factor per dimension, from `scales` or from `sizes` as ONNX Runtime derives it."""
    x_shape, y_shape = ctx.shape(node.inputs[0]), ctx.shape(node.output)
    scales = [np.float32(o) / np.float32(i) for i, o in zip(x_shape, y_shape, strict=True)]
    name = node.input(index)
    given = node.attrs.get("scales") if node.op == "Upsample" and name is None else None
    if name is not None:
        given = ctx.require_constant(name, "scales").reshape(-1)
    if given is None or len(given) == 0:
        if node.attrs.get("keep_aspect_ratio_policy", "stretch") != "stretch":
            raise Unsupported("keep_aspect_ratio_policy is set", "give the sizes themselves")
        return scales
    axes = node.attrs.get("axes", range(len(x_shape)))
    for axis, factor in zip(axes, given, strict=True):
        scales[axis] = np.float32(factor)
    if min(scales) <= 0:
        raise Unsupported("a scale is not positive", "export the model again")
    return scales


def _half_pixel(i: np.ndarray, scale: np.float32, n_in: int, n_out: int) -> np.ndarray:
    return (i + np.float32(0.5)) / scale - np.float32(0.5)


def _half_pixel_symmetric(i: np.ndarray, scale: np.float32, n_in: int, n_out: int) -> np.ndarray:
    adjustment = np.float32(n_out) / (scale * np.float32(n_in))
    center = np.float32(n_in) / np.float32(2)
    offset = center * (np.float32(1) - adjustment)
    # ONNX Runtime takes the last step in binary64, and floor and ceil show the difference.
    position = np.float64(offset) + (i.astype(np.float64) + 0.5) / np.float64(scale) - 0.5
    return position.astype(np.float32)


def _pytorch_half_pixel(i: np.ndarray, scale: np.float32, n_in: int, n_out: int) -> np.ndarray:
    return _half_pixel(i, scale, n_in, n_out) if n_out > 1 else np.zeros_like(i)


def _align_corners(i: np.ndarray, scale: np.float32, n_in: int, n_out: int) -> np.ndarray:
    return i * np.float32(n_in - 1) / np.float32(n_out - 1) if n_out > 1 else np.zeros_like(i)


def _asymmetric(i: np.ndarray, scale: np.float32, n_in: int, n_out: int) -> np.ndarray:
    return i / scale


def _tf_half_pixel_for_nn(i: np.ndarray, scale: np.float32, n_in: int, n_out: int) -> np.ndarray:
    return (i + np.float32(0.5)) / scale


TRANSFORMS = {
    "half_pixel": _half_pixel,
    "half_pixel_symmetric": _half_pixel_symmetric,
    "pytorch_half_pixel": _pytorch_half_pixel,
    "align_corners": _align_corners,
    "asymmetric": _asymmetric,
    "tf_half_pixel_for_nn": _tf_half_pixel_for_nn,
}
"""Output index -> position in the input (ONNX Resize-19, coordinate_transformation_mode)."""

ROUNDINGS = {
    # In binary64, where adding one half is exact.
    "round_prefer_floor": lambda x, down: np.ceil(x.astype(np.float64) - 0.5),
    "round_prefer_ceil": lambda x, down: np.floor(x.astype(np.float64) + 0.5),
    "floor": lambda x, down: np.floor(x),
    "ceil": lambda x, down: np.ceil(x),
    "legacy": lambda x, down: np.ceil(x) if down else np.trunc(x),
}
"""Position -> index (nearest_mode). `legacy` is what opset 10 left open, as ONNX Runtime has it."""


def source_indexes(n_in: int, n_out: int, scale: np.float32, transform: str, rounding: str) -> np.ndarray:
    """For every output index the input index that is nearest.

    Returns:
        int64 [n_out], each in [0, n_in).
    """
    if n_in == n_out and scale == 1:
        return np.arange(n_in, dtype=np.int64)
    position = TRANSFORMS[transform](np.arange(n_out, dtype=np.float32), np.float32(scale), n_in, n_out)
    index = ROUNDINGS[rounding](position, scale < 1)
    return np.clip(index, 0, n_in - 1).astype(np.int64)
