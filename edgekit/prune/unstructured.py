# SPDX-License-Identifier: Apache-2.0
"""Unstructured pruning: single weights become zero, by magnitude."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from edgekit.errors import InputError, ModelError
from edgekit.prune.magnitude import effective_weights


def prune_sparsity(model: onnx.ModelProto, ratio: float) -> onnx.ModelProto:
    """A copy of `model` in which `ratio` of all convolution and dense weights together are zero.

    Weights compete across layers by their LAMP score (Lee et al., "Layer-adaptive Sparsity for the
    Magnitude-based Pruning", ICLR 2021): the square of a weight over the sum of squares of all weights
    of its layer that are not smaller. Small layers, often the first and the last, keep more of
    theirs so, and no layer loses its largest weight while there are as many left as layers. Zeros that the
    model has count.

    Args:
        model: float model, as `importer.load(path).model`; not changed.
        ratio: share of zeros, in (0, 1), met to the nearest whole weight.

    Raises:
        InputError: the ratio is out of range.
        ModelError: the model has no convolution or dense weights.
    """
    if not 0.0 < ratio < 1.0:
        raise InputError(f"the share of weights to zero is {ratio}; it must lie between 0 and 1")
    weights = effective_weights(model)
    if not weights:
        raise ModelError(f"graph '{model.graph.name}' has no convolution or dense weights to prune")
    scores = np.concatenate([lamp_scores(w) for w in weights.values()])
    zeroed = np.zeros(scores.size, bool)
    # A stable order makes the result the same everywhere, ties included.
    zeroed[np.argsort(scores, kind="stable")[: round(ratio * scores.size)]] = True
    masks = np.split(zeroed, np.cumsum([w.size for w in weights.values()])[:-1])
    return _with_zeros(model, dict(zip(weights, masks, strict=True)))


def lamp_scores(w: np.ndarray) -> np.ndarray:
    """The LAMP score of every element, flat: w[i]^2 / sum of w[j]^2 over all |w[j]| >= |w[i]|; 0 for zeros."""
    squares = np.square(w.reshape(-1))
    order = np.argsort(squares, kind="stable")
    rest = np.cumsum(squares[order][::-1])[::-1]
    scores = np.empty_like(squares)
    scores[order] = np.divide(squares[order], rest, out=np.zeros_like(rest), where=rest > 0)
    return scores


def _with_zeros(model: onnx.ModelProto, masks: dict[str, np.ndarray]) -> onnx.ModelProto:
    pruned = onnx.ModelProto()
    pruned.CopyFrom(model)
    for tensor in pruned.graph.initializer:
        if tensor.name in masks:
            data = numpy_helper.to_array(tensor).copy()
            data.reshape(-1)[masks[tensor.name]] = 0
            tensor.CopyFrom(numpy_helper.from_array(data, tensor.name))
    return pruned
