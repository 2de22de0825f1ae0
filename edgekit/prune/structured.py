# SPDX-License-Identifier: Apache-2.0
"""Structured pruning: whole channels leave every tensor that they touch.

Channels are ranked within their group (`channels.ChannelGraph`), by the L2 norm of all weights that
leave with them (Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017, over the coupled
tensors as in DepGraph, CVPR 2023), or by their mean absolute activation on data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import numpy as np
import onnx
from onnx import numpy_helper

from edgekit.calibrate.taps import Taps
from edgekit.data import Dataset
from edgekit.errors import DataError, InputError, ModelError
from edgekit.prune.channels import FIXED, ChannelGraph, Labels
from edgekit.prune.magnitude import effective_weights

Importance = Literal["magnitude", "activation"]


def prune_structured(
    model: onnx.ModelProto,
    ratio: float,
    importance: Importance = "magnitude",
    calibration: Dataset | None = None,
) -> onnx.ModelProto:
    """A smaller model with `ratio` of the output channels removed in every prunable group.

    Args:
        model: float model with static shapes, as `importer.load(path).model`; not changed.
        ratio: share to remove, in (0, 1); see `removal_count` for the rounding.
        importance: "magnitude" of the weights, or mean absolute "activation" on `calibration`.
        calibration: inputs for "activation", streamed once.

    Returns:
        A checked model with the same inputs and outputs.

    Raises:
        InputError: the ratio is out of range.
        DataError: "activation" without data.
        ModelError: no channel can be removed.
    """
    if not 0.0 < ratio < 1.0:
        raise InputError(f"the share of channels to remove is {ratio}; it must lie between 0 and 1")
    if importance == "activation" and calibration is None:
        raise DataError("ranking channels by activation needs calibration data; give some or rank by magnitude")
    pruned = onnx.ModelProto()
    pruned.CopyFrom(model)
    graph = ChannelGraph(pruned)
    if importance == "activation" and calibration is not None:
        scores = activation_scores(graph, calibration)
    else:
        scores = magnitude_scores(graph)
    removed = choose(graph, scores, ratio)
    if not removed:
        raise ModelError(f"graph '{model.graph.name}': no channel can be removed; every layer is tied to an input or output")
    remove(graph, removed)
    return pruned


def removal_count(channels: int, ratio: float) -> int:
    """How many of a group's channels go: `ratio` of them, rounded to a multiple of 4, of 8 from 64 channels up.

    A half rounds down. Never all and never none: a group too small for such a multiple loses the nearest number that
    leaves one channel; one channel alone stays.
    """
    if channels < 2:
        return 0
    step = 8 if channels >= 64 else 4
    count = step * max(1, math.ceil(ratio * channels / step - 0.5))
    while count >= channels and count > step:
        count -= step
    if count >= channels:
        count = min(max(1, math.ceil(ratio * channels - 0.5)), channels - 1)
    return count


def choose(graph: ChannelGraph, scores: dict[int, float], ratio: float) -> set[int]:
    """The units that go: the least important of each group, so that no tensor is left empty."""
    removed: set[int] = set()
    for units in graph.units.removable().values():
        ranked = sorted(units, key=lambda u: (scores.get(u, 0.0), u))
        removed.update(ranked[: removal_count(len(units), ratio)])
    _keep_one_everywhere(graph, removed, scores)
    return removed


def _keep_one_everywhere(graph: ChannelGraph, removed: set[int], scores: dict[int, float]) -> None:
    """Puts the best unit back where a dimension (one part of a Split, say) would lose all of its own."""
    dimensions = [cut.labels for cut in graph.cuts]
    dimensions += [here for labels in graph.labels.values() for here in labels if here is not None]
    for labels in dimensions:
        if (labels == FIXED).any():
            continue
        units = {graph.units.find(int(label)) for label in np.unique(labels)}
        if units <= removed:
            removed.discard(max(units, key=lambda u: (scores.get(u, 0.0), u)))


def remove(graph: ChannelGraph, removed: Iterable[int]) -> None:
    """Cuts the units out of `graph.model`, in place, and checks the result."""
    gone = np.array([graph.units.find(label) in set(removed) for label in range(len(graph.units.parent))], bool)

    def keep(labels: np.ndarray) -> np.ndarray:
        return np.array([label == FIXED or not gone[label] for label in labels], bool)

    for cut in graph.cuts:
        graph.constants[cut.tensor] = np.compress(keep(cut.labels), graph.constants[cut.tensor], axis=cut.axis)
    touched = {cut.tensor for cut in graph.cuts}
    for tensor in graph.model.graph.initializer:
        if tensor.name in touched:
            data = np.ascontiguousarray(graph.constants[tensor.name])
            tensor.CopyFrom(numpy_helper.from_array(data, tensor.name))
    for resize in graph.resizes:
        resize.apply(keep)
    _merge_copies(graph)
    _finish(graph.model)


def _merge_copies(graph: ChannelGraph) -> None:
    """Lets nodes share constants again that shrank alike."""
    data = {t.name: numpy_helper.to_array(t) for t in graph.model.graph.initializer}
    for node in graph.model.graph.node:
        for i, name in enumerate(node.input):
            origin = graph.copies.get(name)
            if origin is not None and np.array_equal(data[name], data[origin]):
                node.input[i] = origin


def _finish(model: onnx.ModelProto) -> None:
    """Drops constants that nothing reads, infers shapes anew, checks."""
    used = {name for node in model.graph.node for name in node.input} | {o.name for o in model.graph.output}
    kept = [t for t in model.graph.initializer if t.name in used]
    inputs = [i for i in model.graph.input if i.name not in {t.name for t in kept}]
    del model.graph.initializer[:], model.graph.value_info[:], model.graph.input[:]
    model.graph.initializer.extend(kept)
    model.graph.input.extend(inputs)
    model.CopyFrom(onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True))
    onnx.checker.check_model(model, full_check=True)


# Importance.


def magnitude_scores(graph: ChannelGraph) -> dict[int, float]:
    """unit -> mean over the layers' weights that it touches of its L2 norm, relative to the tensor's average."""
    totals = _Totals(graph)
    weights = effective_weights(graph.model)
    for cut in graph.cuts:
        if cut.weight:
            w = weights[cut.tensor]
            totals.add(cut.labels, np.square(w).sum(axis=tuple(a for a in range(w.ndim) if a != cut.axis)))
    return totals.scores()


def activation_scores(graph: ChannelGraph, data: Dataset) -> dict[int, float]:
    """unit -> mean absolute activation over data, where layers read it, relative to the tensor's average."""
    read: dict[str, Labels] = {}
    for node in graph.model.graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            labels = graph.known(node.input[0])
            if any(here is not None for here in labels):
                read[node.input[0]] = labels
    sums: dict[str, np.ndarray] = {}
    taps = Taps(graph.model, {name: int(np.prod(graph.shapes[name])) for name in read})
    for index in range(taps.passes):
        for _, tensors in taps.stream(index, data.batches()):
            for name, array in tensors:
                axis = _axis(read[name])
                others = tuple(a for a in range(array.ndim) if a != axis)
                sums[name] = sums.get(name, 0.0) + np.abs(array.astype(np.float64)).sum(axis=others)
    totals = _Totals(graph)
    for name, values in sums.items():
        here = read[name][_axis(read[name])]
        assert here is not None
        totals.add(here, values, power=1.0)
    return totals.scores()


def _axis(labels: Labels) -> int:
    return next(i for i, here in enumerate(labels) if here is not None)


class _Totals:
    """Collects a score per unit from many tensors of different size and scale."""

    def __init__(self, graph: ChannelGraph) -> None:
        self._units = graph.units
        self._sum: dict[int, float] = {}
        self._count: dict[int, int] = {}

    def add(self, labels: np.ndarray, values: np.ndarray, power: float = 0.5) -> None:
        """`values` per index; those of one unit add up before `power` makes them its score in this tensor."""
        own: dict[int, float] = {}
        for label, value in zip(labels, values, strict=True):
            if label != FIXED:
                unit = self._units.find(int(label))
                own[unit] = own.get(unit, 0.0) + float(value)
        scores = {unit: value**power for unit, value in own.items()}
        mean = sum(scores.values()) / len(scores) if scores else 0.0
        for unit, score in scores.items():
            self._sum[unit] = self._sum.get(unit, 0.0) + (score / mean if mean > 0 else 0.0)
            self._count[unit] = self._count.get(unit, 0) + 1

    def scores(self) -> dict[int, float]:
        return {unit: total / self._count[unit] for unit, total in self._sum.items()}
