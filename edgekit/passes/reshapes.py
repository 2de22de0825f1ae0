# SPDX-License-Identifier: Apache-2.0
"""Reshapes: merged, dropped, and moved behind the elementwise nodes that follow them.

Behind them, those nodes meet the convolution or dense layer that they belong to.
"""

from __future__ import annotations

import numpy as np

from edgekit.graph import Node
from edgekit.passes.edit import Editor, moves_only_units, reshaped_source

_BROADCAST_LIMIT = 1 << 22
"""A constant operand is not expanded beyond this many elements to see how it looks before a reshape."""


def run(edit: Editor) -> bool:
    changed = edit.sweep(_from_transpose)
    changed |= edit.sweep(_merge)
    changed |= edit.sweep(_raise_unary)
    return edit.sweep(_raise_binary) or changed


def _from_transpose(edit: Editor, node: Node) -> bool:
    """A Transpose that moves only dimensions of size 1 is a Reshape."""
    if node.op != "Transpose" or not moves_only_units(edit.shape(node.inputs[0]), node.attrs["perm"]):
        return False
    edit.rewrite(node, "Reshape", node.inputs)
    return True


def _merge(edit: Editor, node: Node) -> bool:
    if node.op != "Reshape":
        return False
    first = edit.producer(node.inputs[0], "Reshape")
    source = first.inputs[0] if first else node.inputs[0]
    if edit.shape(source) == edit.shape(node.outputs[0]) and edit.bypass(node, source):
        return True
    if first is None:
        return False
    edit.set_inputs(node, [source])
    return True


def _raise_unary(edit: Editor, node: Node) -> bool:
    """Unary(Reshape(x)) -> Reshape(Unary(x))"""
    reshape = edit.producer(node.inputs[0], "Reshape") if node.op == "Unary" else None
    if reshape is None or edit.only_reader(reshape.outputs[0]) is not node:
        return False
    return _raise(edit, node, {0: reshape.inputs[0]})


def _raise_binary(edit: Editor, node: Node) -> bool:
    """Add(Reshape(x), other) -> Reshape(Add(x, other')), where `other` is a constant or the same kind of Reshape."""
    if node.op not in ("Add", "Sub", "Mul"):
        return False
    output = edit.shape(node.outputs[0])
    for i, j in ((0, 1), (1, 0)):
        reshape = edit.producer(node.inputs[i], "Reshape")
        if reshape is None or edit.shape(node.inputs[i]) != output:
            continue
        if edit.only_reader(reshape.outputs[0]) is not node:
            continue
        x = reshape.inputs[0]
        other = _reshaped_operand(edit, node.inputs[j], edit.shape(x), output)
        if other is not None:
            return _raise(edit, node, {i: x, j: other})
    return False


def _reshaped_operand(edit: Editor, name: str, shape: tuple[int, ...], output: tuple[int, ...]) -> str | None:
    """An operand that broadcasts with `shape` as `name` does with `output`."""
    data = edit.constant(name)
    if data is None:
        reshape = edit.producer(name, "Reshape")
        if reshape is None or edit.shape(reshape.inputs[0]) != shape or edit.shape(name) != output:
            return None
        return reshape.inputs[0]
    if np.prod(output, dtype=np.int64) > _BROADCAST_LIMIT:
        return None
    return edit.add_constant(name, _shrink(np.broadcast_to(data, output).reshape(shape)))


def _shrink(full: np.ndarray) -> np.ndarray:
    """The smallest array that broadcasts to `full`."""
    for axis in range(full.ndim):
        first = full.take([0], axis=axis)
        if (full == first).all():
            full = first
    while full.ndim and full.shape[0] == 1:
        full = full[0]
    return full


def _raise(edit: Editor, node: Node, inputs: dict[int, str]) -> bool:
    """`node` computes from `inputs` (by position); a Reshape behind it restores the shape."""
    output = edit.value(node.outputs[0])
    names = [inputs.get(i, name) for i, name in enumerate(node.inputs)]
    shape = next(edit.shape(n) for n in names if edit.constant(n) is None)
    raised = edit.add_value(f"{output.name}.raised", shape, *reshaped_source(output, shape))
    stats = edit.graph.batch_norm_stats.get(output.name)
    if stats is not None and stats[0].size == shape[-1]:
        edit.graph.batch_norm_stats[raised] = stats
    edit.set_inputs(node, names)
    edit.set_output(node, raised)
    edit.insert_behind(node, "Reshape", [raised], output.name)
    return True
