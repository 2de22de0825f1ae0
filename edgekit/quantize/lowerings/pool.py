# SPDX-License-Identifier: Apache-2.0
"""Max and average pooling."""

from __future__ import annotations

import numpy as np

from edgekit.errors import ModelError
from edgekit.graph import Node
from edgekit.program import AveragePool, Lut, MaxPool
from edgekit.quantize import scales
from edgekit.quantize.lowering import Lowering, lowers
from edgekit.quantize.lowerings.accumulate import window
from edgekit.quantize.lowerings.tables import requantize_table


@lowers("MaxPool")
def max_pool(low: Lowering, node: Node) -> None:
    """Keeps the scale; a fused activation follows as a table."""
    x, y = low.quant(node.inputs[0]), low.quant(node.outputs[0])
    clip = node.attrs.get("clip")
    output = low.result(node)
    target = (
        output if clip is None else low.temporary(f"{output}_unclipped", low.program.tensors[output].shape, x)
    )
    low.emit(MaxPool(node.name, [low.operand(node.inputs[0])], [target], _kernel(node), **window(node)))
    if clip is not None:
        low.emit(Lut(node.name, [target], [output], requantize_table(x, y, clip)))


@lowers("AveragePool")
def average_pool(low: Lowering, node: Node) -> None:
    """Multiplier f32(sx / f32(sy * n)), n positions in the window."""
    x, y = low.quant(node.inputs[0]), low.quant(node.outputs[0])
    kernel = _kernel(node)
    positions = kernel[0] * kernel[1]
    if positions * scales.distance(x) > scales.ACCUMULATOR_MAX:
        raise ModelError(
            f"node '{node.name}': a window of {kernel} can overflow 32-bit accumulators; pool in two steps"
        )
    smallest = np.float32(x.scale) / np.float32(y.scale * np.float32(positions))
    low.check_multipliers(node, smallest, positions * scales.distance(x))
    low.check_multipliers(node, x.scale / y.scale, scales.distance(x))
    low.emit(
        AveragePool(
            node.name,
            [low.operand(node.inputs[0])],
            [low.result(node)],
            kernel,
            *low.clamp(node, y),
            **window(node),
            count_include_pad=bool(node.attrs.get("count_include_pad", False)),
        )
    )


def _kernel(node: Node) -> tuple[int, int]:
    rows, cols = node.attrs["kernel"]
    return int(rows), int(cols)
