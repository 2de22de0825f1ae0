# SPDX-License-Identifier: Apache-2.0
"""What convolutions and pools share: the channels-last view and the sliding window."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgekit.importer.context import Context, OnnxNode, Perm, Shape
from edgekit.importer.registry import Unsupported

NHWC: Perm = (0, 2, 3, 1)
NLC: Perm = (0, 2, 1)


def image_view(ctx: Context, tensor: str) -> tuple[Perm, Shape]:
    """Permutation and shape that make [N,C,H,W] or [N,C,L] into [N,H,W,C], with H = 1 for L.

    Raises:
        Unsupported: the tensor has no or three spatial dimensions.
    """
    shape = ctx.shape(tensor)
    if len(shape) == 4:
        return NHWC, tuple(shape[p] for p in NHWC)
    if len(shape) == 3:
        return NLC, (shape[0], 1, shape[2], shape[1])
    raise Unsupported(
        f"its input has {len(shape)} dimensions", "only 1-D [N,C,L] and 2-D [N,C,H,W] data can be used"
    )


@dataclass(frozen=True)
class Window:
    """A window in two dimensions, all of it explicit. `pads` is (top, left, bottom, right)."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]


def window(node: OnnxNode, kernel: Sequence[int], inputs: Shape, outputs: Shape, rank: int) -> Window:
    """Resolves strides, dilations, auto_pad and ceil_mode of `node`.

    Args:
        kernel: the window's size per spatial dimension.
        inputs, outputs: the NHWC shapes before and after.
        rank: 1 or 2 spatial dimensions in ONNX.

    The trailing pads are those with which `floor` gives ONNX's output size, so that ceil_mode needs
    no flag; ONNX drops a window that would start in them, and so do sizes computed this way. Where
    the output ignores the last positions of the input, the trailing pad stays as it is declared.
    """
    kernel = _two(kernel, 1, rank)
    strides = _two(node.attrs.get("strides"), 1, rank)
    dilations = _two(node.attrs.get("dilations"), 1, rank)
    if min(*kernel, *strides, *dilations) < 1:
        raise Unsupported("kernel, stride or dilation is below 1", "export the model again")
    begin, end = _pads(node, kernel, strides, dilations, inputs, outputs, rank)
    if min(*begin, *end) < 0:
        raise Unsupported("a pad is negative", "crop with Slice instead")
    return Window(kernel, strides, dilations, (begin[0], begin[1], end[0], end[1]))


def _two(values: Sequence[int] | None, default: int, rank: int) -> tuple[int, int]:
    """One or two spatial values as (h, w)."""
    values = list(values) if values is not None else [default] * rank
    if len(values) != rank:
        raise Unsupported(
            f"an attribute has {len(values)} values for {rank} dimensions", "export the model again"
        )
    return (values[0], values[1]) if rank == 2 else (default, values[0])


def _pads(
    node: OnnxNode,
    kernel: tuple[int, int],
    strides: tuple[int, int],
    dilations: tuple[int, int],
    inputs: Shape,
    outputs: Shape,
    rank: int,
) -> tuple[list[int], list[int]]:
    auto_pad = node.attrs.get("auto_pad", "NOTSET")
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        totals = [
            max((math.ceil(i / s) - 1) * s + span - i, 0)
            for i, s, span in zip(inputs[1:3], strides, spans, strict=True)
        ]
        small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
        return (small, large) if auto_pad == "SAME_UPPER" else (large, small)
    pads = list(node.attrs.get("pads", [0] * (2 * rank))) if auto_pad == "NOTSET" else [0] * (2 * rank)
    if len(pads) != 2 * rank:
        raise Unsupported(f"pads has {len(pads)} values for {rank} dimensions", "export the model again")
    if rank == 1:
        pads = [0, pads[0], 0, pads[1]]
    begin, end = pads[:2], pads[2:]
    needed = [
        (o - 1) * s + span - i - b
        for o, s, span, i, b in zip(outputs[1:3], strides, spans, inputs[1:3], begin, strict=True)
    ]
    return begin, [max(e, n) for e, n in zip(end, needed, strict=True)]
