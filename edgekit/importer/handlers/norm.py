# SPDX-License-Identifier: Apache-2.0
"""Normalization with fixed statistics, and over the last dimensions."""

from __future__ import annotations

import math

import numpy as np

from edgekit.importer.context import Context, OnnxNode, Shape
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


@handler(
    "LayerNormalization",
    since=17,
    becomes="LayerNorm; also where ReduceMean, Sub, Pow, Sqrt, Div, Mul and Add spell it",
    restrictions="scale and bias are constants; Mean and InvStdDev are not used",
)
def layer_normalization(ctx: Context, node: OnnxNode) -> None:
    """(x - mean) / sqrt(var + epsilon) * scale + bias, statistics over all dimensions from `axis` on."""
    if any(node.outputs[1:]):
        raise Unsupported("its outputs Mean and InvStdDev are used", "export the model in inference mode (model.eval())")
    x, shape = node.inputs[0], ctx.shape(node.inputs[0])
    axis = int(node.attrs.get("axis", -1))
    if not -len(shape) <= axis < len(shape):
        raise Unsupported(f"axis {axis} is outside its {len(shape)} dimensions", "export the model again")
    normalized = shape[axis % len(shape) :]
    gamma = ctx.require_constant(node.inputs[1], "scale")
    bias = node.input(2)
    beta = np.zeros(1, np.float32) if bias is None else ctx.require_constant(bias, "bias")
    give_layer_norm(ctx, node.output, x, normalized, gamma, beta, float(node.attrs.get("epsilon", 1e-5)))


def give_layer_norm(
    ctx: Context, y: str, x: str, normalized: Shape, gamma: np.ndarray, beta: np.ndarray, epsilon: float
) -> None:
    """Makes ONNX tensor `y` the layer normalization of `x` over its last dimensions, those of `normalized`.

    `gamma` and `beta` broadcast to `normalized`.
    """
    if epsilon < 0 or not math.isfinite(epsilon):
        raise Unsupported(f"its epsilon is {epsilon}", "export the model again")
    shape = ctx.shape(x)
    rows = (*shape[: len(shape) - len(normalized)], math.prod(normalized))
    flat = [np.broadcast_to(data, normalized).reshape(-1) for data in (gamma, beta)]
    names = [ctx.add_constant(f"{y}.{role}", data) for role, data in zip(("gamma", "beta"), flat, strict=True)]
    ctx.give(y, "LayerNorm", [ctx.take(x, shape=rows), *names], {"epsilon": epsilon}, shape=rows)
