# SPDX-License-Identifier: Apache-2.0
"""What convolutions and pools share: the channels-last view and the sliding window."""

from __future__ import annotations

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


def window(node: OnnxNode, kernel: Sequence[int], rank: int) -> Window:
    """The window of `node`, whose pads `importer.windows` made explicit.

    Args:
        kernel: its size per spatial dimension.
        rank: 1 or 2 spatial dimensions in ONNX.
    """
    size = _two(kernel, rank)
    strides = _two(node.attrs.get("strides"), rank)
    dilations = _two(node.attrs.get("dilations"), rank)
    if min(*size, *strides, *dilations) < 1:
        raise Unsupported("kernel, stride or dilation is below 1", "export the model again")
    pads = list(node.attrs.get("pads", [0] * (2 * rank)))
    if len(pads) != 2 * rank:
        raise Unsupported(f"pads has {len(pads)} values for {rank} dimensions", "export the model again")
    if min(pads) < 0:
        raise Unsupported("a pad is negative", "crop with Slice instead")
    top, left, bottom, right = pads if rank == 2 else (0, pads[0], 0, pads[1])
    return Window(size, strides, dilations, (top, left, bottom, right))


def _two(values: Sequence[int] | None, rank: int) -> tuple[int, int]:
    """One or two spatial values as (h, w); 1 where there is none."""
    values = list(values) if values is not None else [1] * rank
    if len(values) != rank:
        raise Unsupported(
            f"an attribute has {len(values)} values for {rank} dimensions", "export the model again"
        )
    return (values[0], values[1]) if rank == 2 else (1, values[0])
