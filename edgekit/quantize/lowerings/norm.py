# SPDX-License-Identifier: Apache-2.0
"""Layer normalization."""

from __future__ import annotations

import numpy as np

from edgekit.errors import ModelError
from edgekit.format.schema import MAX_NORM_DEPTH, SCALE_MIN
from edgekit.graph import Node
from edgekit.program import LayerNorm
from edgekit.quantize import scales
from edgekit.quantize.lowering import Lowering, lowers


@lowers("LayerNorm")
def layer_norm(low: Lowering, node: Node) -> None:
    """gain = gamma / sy, offset = beta / sy, epsilon in units of the integer variance, (sx / n)^2."""
    x, y = low.quant(node.inputs[0]), low.quant(node.outputs[0])
    gamma, beta = (np.asarray(low.graph.constant(name), np.float32) for name in node.inputs[1:])
    n = gamma.size
    if n > MAX_NORM_DEPTH:
        raise ModelError(f"node '{node.name}': it normalizes over {n} elements; at most {MAX_NORM_DEPTH} are supported")
    gain, offset = gamma / np.float32(y.scale), beta / np.float32(y.scale)
    # No element lies further from the mean than sqrt(n - 1) deviations.
    reach = max(float(np.abs(gain).max()) * n**0.5, float(np.abs(offset).max()))
    if not reach < scales.REAL_MAX:
        low.raise_scale(node.outputs[0], reach / scales.REAL_MAX)
    epsilon = scales.clamp_scale(float(node.attrs["epsilon"]) * (n / float(x.scale)) ** 2)
    inputs = [low.operand(node.inputs[0])]
    low.emit(
        LayerNorm(
            node.name, inputs, [low.result(node)], epsilon, _without_specks(gain), _without_specks(offset), *low.clamp(node, y)
        )
    )


def _without_specks(values: np.ndarray) -> np.ndarray:
    """What is below every scale becomes zero: it could not move a result by 2^-80 of a step."""
    return np.where(np.abs(values) < SCALE_MIN, np.float32(0), values).astype(np.float32)
