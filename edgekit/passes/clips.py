# SPDX-License-Identifier: Apache-2.0
"""Relu, Relu6 and Clip become the output clamp of the node that computes their input."""

from __future__ import annotations

import math

from edgekit.graph import Node
from edgekit.passes import unary
from edgekit.passes.bounds import Range, known_ranges
from edgekit.passes.edit import Editor

_CLAMPING = ("Conv", "DepthwiseConv", "Dense", "MatMul", "Add", "Sub", "Mul", "AveragePool", "PRelu", "LayerNorm")


def fuse(edit: Editor) -> bool:
    """Fuses clips into their producers, but for arithmetic with a constant, which may yet become weights."""
    changed = edit.sweep(_raise_above_max_pool)
    return edit.sweep(lambda e, node: _fuse(e, node, constants=False)) or changed


def fuse_rest(edit: Editor) -> bool:
    """Fuses clips into whatever can clamp."""
    return edit.sweep(lambda e, node: _fuse(e, node, constants=True))


def drop_redundant(edit: Editor) -> bool:
    """Removes clips that a value can never reach: a Relu behind a Relu or a Sigmoid."""
    ranges = known_ranges(edit.graph)

    def drop(edit: Editor, node: Node) -> bool:
        limits = clip_of(node)
        if limits is None or node.inputs[0] not in ranges:
            return False
        lo, hi = ranges[node.inputs[0]]
        return limits[0] <= lo and hi <= limits[1] and edit.bypass(node, node.inputs[0])

    return edit.sweep(drop)


def clip_of(node: Node) -> Range | None:
    """The limits of a Unary node that only clips; None for every other node."""
    if node.op != "Unary":
        return None
    limits = (-math.inf, math.inf)
    for step in unary.chain(node):
        params = unary.complete(step)
        if step[0] == "Relu":
            limits = compose(limits, (0.0, math.inf))
        elif step[0] == "Clip":
            limits = compose(limits, (float(params["lo"]), float(params["hi"])))
        else:
            return None
    return limits


def compose(first: Range, second: Range) -> Range:
    """The limits of a clip to `first` followed by one to `second`."""
    lo, hi = second
    return min(max(first[0], lo), hi), min(max(first[1], lo), hi)


def _fuse(edit: Editor, node: Node, constants: bool) -> bool:
    limits = clip_of(node)
    producer = None if limits is None else edit.producer(node.inputs[0], *_CLAMPING)
    if limits is None or producer is None or edit.only_reader(node.inputs[0]) is not node:
        return False
    if not constants and _has_constant_operand(edit, producer):
        return False
    producer.attrs["clip"] = compose(producer.attrs.get("clip", (-math.inf, math.inf)), limits)
    # The statistics are those of the value in front of the clip, which the limits turn into a range.
    edit.move_stats(node.inputs[0], node.outputs[0])
    edit.take_over(producer, node)
    return True


def _has_constant_operand(edit: Editor, node: Node) -> bool:
    return node.op in ("Add", "Sub", "Mul") and any(edit.constant(i) is not None for i in node.inputs)


def _raise_above_max_pool(edit: Editor, node: Node) -> bool:
    """Clip(MaxPool(x)) -> MaxPool(Clip(x)) where the producer of x can clamp."""
    pool = edit.producer(node.inputs[0], "MaxPool") if clip_of(node) is not None else None
    if pool is None or edit.only_reader(node.inputs[0]) is not node:
        return False
    x = pool.inputs[0]
    producer = edit.producer(x, *_CLAMPING)
    if producer is None or edit.only_reader(x) is not pool or _has_constant_operand(edit, producer):
        return False
    clipped = edit.add_value(f"{x}.clipped", edit.shape(x))
    edit.insert(pool, "Unary", [x], clipped, **node.attrs)
    edit.set_inputs(pool, [clipped])
    edit.take_over(pool, node)
    return True
