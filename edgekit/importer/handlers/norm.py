# SPDX-License-Identifier: Apache-2.0
"""Normalization with fixed statistics."""

from __future__ import annotations

import numpy as np

from edgekit.importer.context import Context, OnnxNode
from edgekit.importer.handlers.activation import channels_last
from edgekit.importer.registry import Unsupported, handler


@handler(
    "BatchNormalization", since=7, becomes="Mul, Add", restrictions="inference mode; constant parameters"
)
def batch_normalization(ctx: Context, node: OnnxNode) -> None:
    """gamma * (x - mean) / sqrt(var + epsilon) + beta, per channel; records the declared statistics."""
    if node.attrs.get("training_mode", 0) or any(node.outputs[1:]):
        raise Unsupported("it is in training mode", "export the model in inference mode (model.eval())")
    if not node.attrs.get("spatial", 1):
        raise Unsupported(
            "it has statistics per position (spatial=0)", "use one mean and variance per channel"
        )
    x, y = node.inputs[0], node.output
    roles = ("scale", "bias", "mean", "variance")
    parameters = [ctx.require_constant(t, r) for t, r in zip(node.inputs[1:5], roles, strict=True)]
    gamma, beta, mean, var = (p.reshape(-1).astype(np.float64) for p in parameters)
    var = var + float(node.attrs.get("epsilon", 1e-5))
    if not (var > 0).all():
        raise Unsupported("its variance plus epsilon is not positive", "train or export the model again")
    factor = gamma / np.sqrt(var)
    perm = channels_last(ctx.rank(x))
    source = ctx.take(x, perm)
    shape = ctx.graph.values[source].shape
    scaled = ctx.step("Mul", [source, ctx.add_constant(node.inputs[1], factor)], shape)
    result = ctx.give(y, "Add", [scaled, ctx.add_constant(node.inputs[2], beta - mean * factor)], perm=perm)
    stats = ctx.graph.batch_norm_stats
    stats[result] = (beta.astype(np.float32), np.abs(gamma).astype(np.float32))
    stats.setdefault(source, (mean.astype(np.float32), np.sqrt(var).astype(np.float32)))
