# SPDX-License-Identifier: Apache-2.0
"""Constant folding: a node whose inputs are all constants becomes a constant."""

from __future__ import annotations

import numpy as np

from edgekit.graph import Node
from edgekit.passes.edit import Editor
from edgekit.passes.evaluate import evaluate_node


def run(edit: Editor) -> bool:
    return edit.sweep(_fold)


def _fold(edit: Editor, node: Node) -> bool:
    arrays = [edit.constant(name) for name in node.inputs]
    output = edit.value(node.outputs[0])
    if any(a is None for a in arrays) or edit.graph.is_output(output.name):
        return False
    data = evaluate_node(node, [a.astype(np.float64) for a in arrays if a is not None], output.shape)
    edit.remove(node)
    output.data = np.ascontiguousarray(data, dtype=np.float32)
    output.source = output.source_perm = None
    return True
