# SPDX-License-Identifier: Apache-2.0
"""Which kernel computes a layer, where the kernels of one set want its weights in different orders.

A kernel of csrc/kernels that computes only some layers says so in ek_<name>_supports. What stands here is the same,
so that the writer packs weights for the kernel that will read them. Were it not, the runtime would decode
them in every run, to the same bits; `tests/building/test_packing.py` asks the runtime whether it does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from edgekit.program import Accumulate, Conv2D

Tile: TypeAlias = tuple[int, int]
Shape: TypeAlias = tuple[int, ...]

SHALLOW_DEPTH = 16
SHALLOW_WINDOWS = 8
WINOGRAD_CHANNELS = 128


@dataclass(frozen=True)
class Layer:
    """A convolution as kernels see it, or a dense layer, which is one of 1x1.

    Attributes:
        kernel: rows and columns of a window; `plain` says that strides and dilations are 1 and there are no groups.
        depth: values of a window, of one group.
        channels: in and out.
        images, rows, cols: of the output; of a dense layer, `cols` counts the rows of its input.
    """

    kernel: tuple[int, int]
    plain: bool
    depth: int
    channels: tuple[int, int]
    images: int
    rows: int
    cols: int

    @property
    def windows(self) -> int:
        return self.images * self.rows * self.cols

    @classmethod
    def of(cls, op: Accumulate, x: Shape, w: Shape, y: Shape) -> Layer:
        """The layer of `op` with the shapes of its input, weights and output."""
        depth = int(np.prod(w[1:], dtype=np.int64))
        if isinstance(op, Conv2D):
            plain = (*op.strides, *op.dilations, op.groups) == (1, 1, 1, 1, 1)
            return cls((w[1], w[2]), plain, depth, (x[3], y[3]), y[0], y[1], y[2])
        return cls((1, 1), True, depth, (w[1], w[0]), 1, 1, int(np.prod(y[:-1], dtype=np.int64)))


def _winograd_neon(layer: Layer) -> bool:
    c_in, c_out = layer.channels
    tiles = layer.images * -(-layer.rows // 4) * -(-layer.cols // 4)
    return (
        layer.kernel == (3, 3)
        and layer.plain
        and c_in % 8 == 0
        and c_in <= WINOGRAD_CHANNELS
        and c_out % 16 == 0
        and tiles >= 4
        and 8 * tiles <= layer.windows
    )


def _conv2d_shallow_neon(layer: Layer) -> bool:
    return layer.depth <= SHALLOW_DEPTH and layer.windows >= SHALLOW_WINDOWS


SUPPORTS: dict[str, Callable[[Layer], bool]] = {
    "winograd_neon": _winograd_neon,
    "conv2d_shallow_neon": _conv2d_shallow_neon,
}
"""By the kernel's name; a kernel that is not here computes every layer, or takes the same tiles as the next of its set."""


@dataclass(frozen=True)
class TileByLayer:
    """The tile that the first kernel which computes a layer wants; `kernels` are name and tile, best first."""

    kernels: Sequence[tuple[str, Tile]]

    def kernel(self, layer: Layer) -> str:
        """The first kernel that computes a layer."""
        return next(name for name, _ in self.kernels if name not in SUPPORTS or SUPPORTS[name](layer))

    def of(self, kernel: str) -> Tile | None:
        """The tile that a kernel wants; None for one that is not of them."""
        return dict(self.kernels).get(kernel)
