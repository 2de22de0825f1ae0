# SPDX-License-Identifier: Apache-2.0
"""Removes nodes that no output needs, values that no node touches, and what is noted of them."""

from __future__ import annotations

from edgekit.passes.edit import Editor


def run(edit: Editor) -> bool:
    graph = edit.graph
    needed = {port.value for port in graph.outputs}
    dead = []
    for node in reversed(graph.nodes):
        if needed.isdisjoint(node.outputs):
            dead.append(node)
        else:
            needed.update(node.inputs)
    for node in dead:
        edit.remove(node)
    _prune_values(edit)
    return bool(dead)


def _prune_values(edit: Editor) -> None:
    """Keeps the values in use, in order of first appearance."""
    graph = edit.graph
    names = [port.value for port in graph.inputs]
    for node in graph.nodes:
        names += [*node.inputs, *node.outputs]
    names += [port.value for port in graph.outputs]
    graph.values = {name: graph.values[name] for name in dict.fromkeys(names)}
    graph.batch_norm_stats = {k: v for k, v in graph.batch_norm_stats.items() if k in graph.values}
