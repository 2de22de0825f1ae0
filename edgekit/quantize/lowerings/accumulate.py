# SPDX-License-Identifier: Apache-2.0
"""Layers with weights: int32 accumulation, then one multiplication per output channel."""

from __future__ import annotations

import math

import numpy as np

from edgekit.calibrate.patches import LAYERS, grouped_rows
from edgekit.errors import ModelError
from edgekit.graph import Node
from edgekit.parallel import ahead, processors
from edgekit.program import Conv2D, Dense, DepthwiseConv2D, MatMul, MatMulTransposed, Quant
from edgekit.quantize import scales
from edgekit.quantize.lowering import Lowering, lowers
from edgekit.quantize.rounding import OutputRounding, nearest, remembered
from edgekit.quantize.weights import QuantizedWeights, quantize_weights

MAX_ROUNDING_DEPTH = 640
"""Inputs per output up to which weights are rounded with regard to outputs; the cost grows cubically."""
LAYERS_AT_ONCE = 4
"""Each takes memory of several times its weights."""
LARGE_BYTES = 32 * 2**20
"""A layer whose weights take more, as float64, is quantized alone."""


@lowers("Conv")
def conv(low: Lowering, node: Node) -> None:
    """w[O,KH,KW,C/groups]"""
    shape = low.graph.values[node.inputs[1]].shape
    groups = int(node.attrs.get("groups", 1))
    quantized = quantize_layer(low, node)
    low.emit(
        Conv2D(
            node.name,
            [low.operand(node.inputs[0]), low.constant(node.inputs[1], quantized.weights.reshape(shape))],
            [low.result(node)],
            quantized.bias,
            quantized.scale,
            *low.clamp(node, low.quant(node.outputs[0])),
            **window(node),
            groups=groups,
        )
    )


@lowers("DepthwiseConv")
def depthwise_conv(low: Lowering, node: Node) -> None:
    """w[KH,KW,O]; output channel o reads input channel o // (O // C)."""
    height, width, _ = low.graph.values[node.inputs[1]].shape
    _emit_depthwise(low, node, quantize_layer(low, node), node.inputs[1], (height, width), window(node))


def affine(low: Lowering, node: Node, scale: np.ndarray, offset: np.ndarray) -> None:
    """`x * scale[C] + offset[C]` of an image as a 1x1 depthwise convolution."""
    quantized = _quantized(low, node, np.asarray(scale, np.float64).reshape(-1, 1), offset)
    _check_multipliers(low, node, quantized)
    _emit_depthwise(low, node, quantized, f"{node.name}_weights", (1, 1), {})


def _emit_depthwise(
    low: Lowering,
    node: Node,
    quantized: QuantizedWeights,
    stem: str,
    kernel: tuple[int, int],
    geometry: dict,
) -> None:
    canonical = np.moveaxis(quantized.weights.reshape(-1, *kernel), 0, -1)
    low.emit(
        DepthwiseConv2D(
            node.name,
            [low.operand(node.inputs[0]), low.constant(stem, canonical)],
            [low.result(node)],
            quantized.bias,
            quantized.scale,
            *low.clamp(node, low.quant(node.outputs[0])),
            **geometry,
        )
    )


@lowers("Dense")
def dense(low: Lowering, node: Node) -> None:
    """w[O,K]"""
    quantized = quantize_layer(low, node)
    low.emit(
        Dense(
            node.name,
            [low.operand(node.inputs[0]), low.constant(node.inputs[1], quantized.weights)],
            [low.result(node)],
            quantized.bias,
            quantized.scale,
            *low.clamp(node, low.quant(node.outputs[0])),
        )
    )


@lowers("MatMul")
def matmul(low: Lowering, node: Node) -> None:
    """Two activations: the bound holds for any content, so their common dimension is limited."""
    a, b = (low.operand_quant(i) for i in node.inputs)
    y = low.quant(node.outputs[0])
    k = low.graph.values[node.inputs[0]].shape[-1]
    reach = k * scales.distance(a) * scales.distance(b)
    if reach > scales.ACCUMULATOR_MAX:
        raise ModelError(
            f"node '{node.name}': a product over {k} elements can overflow 32-bit accumulators; split the MatMul"
        )
    multiplier = np.float32(a.scale * b.scale) / y.scale
    low.check_multipliers(node, multiplier, reach)
    inputs = [low.operand(i) for i in node.inputs]
    cls = MatMulTransposed if node.attrs.get("transposed") else MatMul
    low.emit(cls(node.name, inputs, [low.result(node)], *low.clamp(node, y)))


def quantize_layers(low: Lowering) -> None:
    """Quantizes the weights of all layers, several at once, ahead of the walk that asks for them."""
    missing = [n for n in low.graph.nodes if n.op in LAYERS and _known(low, n) is None]
    small = [n for n in missing if not _is_large(low, n)]
    large = [n for n in missing if _is_large(low, n)]
    for nodes, at_once in ((small, min(processors(), LAYERS_AT_ONCE)), (large, 1)):
        for node, quantized in ahead(lambda n: _quantized(low, n, *_matrix(low, n)), nodes, at_once):
            _remember(low, node, quantized)


def quantize_layer(low: Lowering, node: Node) -> QuantizedWeights:
    """Weights and bias of a Conv, DepthwiseConv or Dense, by `quantize_layers` where its scales are still the same.

    Raises:
        ModelError: no scale is large enough for its weights.
    """
    quantized = _known(low, node)
    if quantized is None:
        quantized = _quantized(low, node, *_matrix(low, node))
        _remember(low, node, quantized)
    _check_multipliers(low, node, quantized)
    return quantized


def _known(low: Lowering, node: Node) -> QuantizedWeights | None:
    """What was computed for the layer with the scales of now."""
    scales_then, quantized = low.layers.get(node.outputs[0], (None, None))
    return quantized if scales_then == _scales(low, node) else None


def _remember(low: Lowering, node: Node, quantized: QuantizedWeights) -> None:
    low.layers[node.outputs[0]] = _scales(low, node), quantized


def _scales(low: Lowering, node: Node) -> tuple[Quant, Quant]:
    return low.quant(node.inputs[0]), low.quant(node.outputs[0])


def _check_multipliers(low: Lowering, node: Node, quantized: QuantizedWeights) -> None:
    x, y = _scales(low, node)
    multiplier = np.float32(x.scale) * quantized.scale / np.float32(y.scale)
    low.check_multipliers(node, multiplier, quantized.reach)


def _is_large(low: Lowering, node: Node) -> bool:
    return 8 * math.prod(low.graph.values[node.inputs[1]].shape) > LARGE_BYTES


def _quantized(low: Lowering, node: Node, w: np.ndarray, b: np.ndarray) -> QuantizedWeights:
    """Weights float64[O, K] and bias float[O] of a node in the scales of its input and output."""
    x, y = _scales(low, node)
    patches = low.patches.get(node.outputs[0])
    if patches is None or not len(patches):
        return quantize_weights(node.name, w, b, x, y)
    rows = grouped_rows(low.graph, node, patches)
    seen = scales.quantize(rows, x)
    rounding = remembered(OutputRounding(seen) if _worth_rounding(low, w) else nearest)
    quantized = quantize_weights(node.name, w, b, x, y, rounding)
    if not low.options.bias_correction:
        return quantized
    mean = rows.mean(axis=1, dtype=np.float64)
    seen_mean = scales.dequantize(seen.mean(axis=1, dtype=np.float64), x)
    b = b + _mean_error(w, quantized, mean, seen_mean)
    return quantize_weights(node.name, w, b, x, y, rounding)


def _worth_rounding(low: Lowering, w: np.ndarray) -> bool:
    return low.options.output_rounding and w.shape[1] <= MAX_ROUNDING_DEPTH


def _mean_error(w: np.ndarray, quantized: QuantizedWeights, mean: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """What rounding weights and inputs takes from the mean of each output channel, float64[O].

    Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (2019),
    section 4.2, with means from data.

    Args:
        mean, seen: float[G, K], the mean of the inputs before and after quantization.
    """
    groups = len(mean)
    exact = np.einsum("gok,gk->go", w.reshape(groups, -1, w.shape[1]), mean)
    rounded = quantized.weights * quantized.scale.astype(np.float64)[:, None]
    return (exact - np.einsum("gok,gk->go", rounded.reshape(groups, -1, w.shape[1]), seen)).reshape(-1)


def window(node: Node) -> dict:
    """Strides, dilations and pads as a program operator takes them."""
    return {
        "strides": tuple(int(v) for v in node.attrs["strides"]),
        "dilations": tuple(int(v) for v in node.attrs["dilations"]),
        "pads": tuple(int(v) for v in node.attrs["pads"]),
    }


def _matrix(low: Lowering, node: Node) -> tuple[np.ndarray, np.ndarray]:
    """Weights float64[O, K], by output channel, and bias float64[O] of a Conv, DepthwiseConv or Dense."""
    w = low.graph.constant(node.inputs[1])
    assert w is not None, f"{node.name}: weights must be constant"
    if node.op == "DepthwiseConv":
        w = np.moveaxis(w, -1, 0)
    b = low.graph.constant(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(len(w))
    assert b is not None, f"{node.name}: bias must be constant"
    return np.asarray(w, np.float64).reshape(len(w), -1), np.asarray(b, np.float64).reshape(-1)
