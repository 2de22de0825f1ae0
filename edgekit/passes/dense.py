# SPDX-License-Identifier: Apache-2.0
"""A Transpose on either side of a dense layer becomes an order of its weights' columns or rows."""

from __future__ import annotations

import numpy as np

from edgekit.graph import Node
from edgekit.passes.edit import Editor, reshaped_source


def run(edit: Editor) -> bool:
    before = edit.sweep(_fold_before)
    return edit.sweep(_fold_behind) or before


def _fold_before(edit: Editor, node: Node) -> bool:
    """Dense(Reshape(Transpose(x))) -> Dense(Reshape(x)) with permuted columns."""
    reshape = edit.producer(node.inputs[0], "Reshape") if node.op == "Dense" else None
    transpose = edit.producer(reshape.inputs[0], "Transpose") if reshape else None
    if reshape is None or transpose is None:
        return False
    x, shape = transpose.inputs[0], edit.shape(reshape.outputs[0])
    index = np.arange(np.prod(shape)).reshape(edit.shape(x)).transpose(transpose.attrs["perm"])
    columns = _order_within_rows(index.reshape(-1, shape[-1]))
    w = edit.constant(node.inputs[1])
    if columns is None or w is None:
        return False
    permuted = np.empty_like(w)
    permuted[:, columns] = w
    flat = edit.add_value(f"{reshape.outputs[0]}.moved", shape)
    edit.insert(node, "Reshape", [x], flat)
    edit.set_inputs(node, [flat, edit.add_constant(node.inputs[1], permuted), node.inputs[2]])
    return True


def _fold_behind(edit: Editor, node: Node) -> bool:
    """Transpose(Reshape(Dense(x))) -> Reshape(Dense(x)) with permuted rows."""
    reshape = edit.producer(node.inputs[0], "Reshape") if node.op == "Transpose" else None
    dense = edit.producer(reshape.inputs[0], "Dense") if reshape else None
    if reshape is None or dense is None:
        return False
    if edit.only_reader(reshape.outputs[0]) is not node or edit.only_reader(dense.outputs[0]) is not reshape:
        return False
    shape = edit.shape(dense.outputs[0])
    index = np.arange(np.prod(shape)).reshape(edit.shape(reshape.outputs[0])).transpose(node.attrs["perm"])
    rows = _order_within_rows(index.reshape(-1, shape[-1]))
    w, b = edit.constant(dense.inputs[1]), edit.constant(dense.inputs[2])
    if rows is None or w is None or b is None:
        return False
    output = edit.add_value(f"{dense.outputs[0]}.moved", shape, *reshaped_source(edit.value(node.outputs[0]), shape))
    names = [edit.add_constant(name, data[rows]) for name, data in zip(dense.inputs[1:], (w, b), strict=True)]
    edit.set_inputs(dense, [dense.inputs[0], *names])
    edit.set_output(dense, output)
    edit.rewrite(node, "Reshape", [output])
    edit.remove(reshape)
    return True


def _order_within_rows(index: np.ndarray) -> np.ndarray | None:
    """`index` [rows, K] of flat positions as one permutation of K; None where rows mix or differ."""
    rows, size = index.shape
    order = index - np.arange(rows)[:, None] * size
    same = (order == order[0]).all() and order.min() >= 0 and order.max() < size
    return order[0] if same else None
