# SPDX-License-Identifier: Apache-2.0
"""One handler per ONNX operator, by family; importing this package fills `registry.HANDLERS`."""

from edgekit.importer.handlers import (
    activation,
    conv,
    dense,
    elementwise,
    norm,
    pool,
    reduce,
    resize,
    shape,
    softmax,
)

__all__ = [
    "activation",
    "conv",
    "dense",
    "elementwise",
    "norm",
    "pool",
    "reduce",
    "resize",
    "shape",
    "softmax",
]
