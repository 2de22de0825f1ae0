# SPDX-License-Identifier: Apache-2.0
"""y = mul * x + add per channel: batch norms, scales, offsets.

Folded into the weights of the convolution or dense layer before it, else, where that is exact,
of the one behind it. What is left becomes a 1x1 depthwise convolution, whose bias and
multipliers are finer than an 8-bit constant operand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.graph import Node
from edgekit.passes import unary
from edgekit.passes.edit import Editor, reshaped_source

LINEAR = ("Conv", "DepthwiseConv", "Dense")


@dataclass(frozen=True)
class Affine:
    """output = mul * x + add; `mul` and `add` are float64, one number or one per last dimension."""

    x: str
    mul: np.ndarray
    add: np.ndarray


def affine_of(edit: Editor, node: Node) -> Affine | None:
    """`node` as a per-channel affine function; None where it is something else."""
    if node.op == "Unary":
        steps = unary.chain(node)
        if len(steps) != 1 or steps[0][0] != "Affine":
            return None
        params = unary.complete(steps[0])
        return Affine(node.inputs[0], np.float64(params["mul"]), np.float64(params["add"]))
    if node.op not in ("Add", "Sub", "Mul") or "clip" in node.attrs:
        return None
    shape = edit.shape(node.outputs[0])
    for i, (x, other) in enumerate((node.inputs, node.inputs[::-1])):
        c = edit.constant(other)
        if c is None or edit.constant(x) is not None or edit.shape(x) != shape:
            continue
        c = _per_channel(c.astype(np.float64), shape)
        return None if c is None else _binary(node.op, x, c, reverse=bool(i))
    return None


def _per_channel(c: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    if c.size == 1:
        return c.reshape(())
    return c.reshape(-1) if c.size == shape[-1] == c.shape[-1] else None


def _binary(op: str, x: str, c: np.ndarray, reverse: bool) -> Affine:
    if op == "Mul":
        return Affine(x, c, np.float64(0.0))
    if op == "Sub" and reverse:
        return Affine(x, np.float64(-1.0), c)
    return Affine(x, np.float64(1.0), -c if op == "Sub" else c)


def to_unary(edit: Editor) -> bool:
    """Turns arithmetic with one number into Unary nodes, drops what changes nothing."""
    return edit.sweep(_to_unary)


def _to_unary(edit: Editor, node: Node) -> bool:
    affine = affine_of(edit, node)
    if affine is None:
        return False
    if (affine.mul == 1).all() and (affine.add == 0).all():
        return edit.bypass(node, affine.x)
    if node.op == "Unary" or affine.mul.ndim or affine.add.ndim:
        return False
    params = {"mul": float(affine.mul), "add": float(affine.add)}
    edit.rewrite(node, "Unary", [affine.x], fn="Affine", params=params)
    return True


def fold(edit: Editor) -> bool:
    """Folds affine functions into the layers around them."""
    backward = edit.sweep(_fold_into_producer)
    return edit.sweep(_fold_into_reader) or backward


def _fold_into_producer(edit: Editor, node: Node) -> bool:
    affine = affine_of(edit, node)
    if affine is None:
        return False
    producer = edit.producer(affine.x, *LINEAR)
    if producer is None or "clip" in producer.attrs or edit.only_reader(affine.x) is not node:
        return False
    w, b = edit.weights(producer)
    # Output channels come first in w[O,KH,KW,C] and w[O,K], last in w[KH,KW,O].
    axis = -1 if producer.op == "DepthwiseConv" else 0
    factor = np.broadcast_to(affine.mul, b.shape)
    scaled = w * (factor if axis else factor.reshape(-1, *[1] * (w.ndim - 1)))
    if not _set_weights(edit, producer, scaled, b * factor + affine.add):
        return False
    _transform_stats(edit, affine, node.outputs[0])
    edit.take_over(producer, node)
    return True


def _transform_stats(edit: Editor, affine: Affine, output: str) -> None:
    stats = edit.graph.batch_norm_stats
    if affine.x in stats:
        mean, std = stats.pop(affine.x)
        moved = affine.mul * mean + affine.add, np.abs(affine.mul) * std
        stats.setdefault(output, (moved[0].astype(np.float32), moved[1].astype(np.float32)))


def _fold_into_reader(edit: Editor, node: Node) -> bool:
    affine = affine_of(edit, node)
    reader = None if affine is None else edit.only_reader(node.outputs[0])
    if affine is None or reader is None or reader.op not in LINEAR:
        return False
    if any(reader.attrs.get("pads", ())) and (affine.add != 0).any():
        # Padding stands for 0 behind the affine function, not in front of it.
        return False
    w, b = edit.weights(reader)
    channels = edit.shape(affine.x)[-1]
    mul, add = (_over_inputs(reader, np.broadcast_to(v, channels), w) for v in (affine.mul, affine.add))
    axes = (0, 1) if reader.op == "DepthwiseConv" else tuple(range(1, w.ndim))
    if not _set_weights(edit, reader, w * mul, b + (w * add).sum(axis=axes)):
        return False
    edit.set_inputs(reader, [affine.x, *reader.inputs[1:]])
    edit.remove(node)
    return True


def _over_inputs(reader: Node, vector: np.ndarray, w: np.ndarray) -> np.ndarray:
    """`vector`, one number per input channel, so that it multiplies the reader's weights."""
    if reader.op == "DepthwiseConv":
        return np.repeat(vector, w.shape[2] // vector.size)
    groups = reader.attrs.get("groups", 1)
    per_output = np.repeat(vector.reshape(groups, -1), w.shape[0] // groups, axis=0)
    return per_output.reshape(w.shape[0], *[1] * (w.ndim - 2), -1)


def _set_weights(edit: Editor, layer: Node, w: np.ndarray, b: np.ndarray) -> bool:
    """Gives `layer` weights and bias of its own; refuses those that are no finite float32."""
    limit = np.finfo(np.float32).max
    if not (np.abs(w) <= limit).all() or not (np.abs(b) <= limit).all():
        return False
    names = [edit.add_constant(name, data) for name, data in zip(layer.inputs[1:], (w, b), strict=True)]
    edit.set_inputs(layer, [layer.inputs[0], *names])
    return True


def lower(edit: Editor) -> bool:
    """Turns one affine function that could not be folded into a 1x1 depthwise convolution.

    One at a time, so that an Add behind a Mul is folded into the Mul's convolution.
    """
    return any(_lower(edit, node) for node in list(edit.graph.nodes))


def _lower(edit: Editor, node: Node) -> bool:
    affine = affine_of(edit, node)
    shape = edit.shape(node.outputs[0])
    if affine is None or not shape or (affine.mul.ndim == 0 and affine.add.ndim == 0):
        return False
    channels = shape[-1]
    w = edit.add_constant(f"{node.name}.mul", np.broadcast_to(affine.mul, (1, 1, channels)))
    b = edit.add_constant(f"{node.name}.add", np.broadcast_to(affine.add, channels))
    attrs: dict[str, Any] = {"strides": (1, 1), "dilations": (1, 1), "pads": (0, 0, 0, 0)}
    if len(shape) == 4:
        edit.rewrite(node, "DepthwiseConv", [affine.x, w, b], **attrs)
        return True
    image = (1, 1, int(np.prod(shape[:-1], dtype=np.int64)), channels)
    output = edit.value(node.outputs[0])
    before = edit.add_value(f"{affine.x}.image", image)
    after = edit.add_value(f"{output.name}.image", image, *reshaped_source(output, image))
    edit.insert(node, "Reshape", [affine.x], before)
    edit.insert(node, "DepthwiseConv", [before, w, b], after, **attrs)
    if output.name in edit.graph.batch_norm_stats:
        edit.graph.batch_norm_stats[after] = edit.graph.batch_norm_stats[output.name]
    edit.rewrite(node, "Reshape", [after])
    return True
