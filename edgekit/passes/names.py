# SPDX-License-Identifier: Apache-2.0
"""Gives values plain names again after rewrites have piled up suffixes."""

from __future__ import annotations

import re

from edgekit.graph import Graph, Value

_SUFFIXES = re.compile(r"(\.(moved|raised|anchored|back|clipped|image|wide)(_\d+)?)+$")


def run(graph: Graph) -> None:
    """Renames activations that passes made after the value that they came from; ports keep theirs."""
    ports = {port.value for port in (*graph.inputs, *graph.outputs)}
    values, graph.values = graph.values, {}
    taken = {name for name in values if name in ports or not _SUFFIXES.search(name)}
    new: dict[str, str] = {}
    for name, value in values.items():
        if name in taken:
            new[name] = name
        else:
            new[name] = _fresh(_plain(value), taken)
            taken.add(new[name])
        value.name = new[name]
        graph.values[value.name] = value
    for node in graph.nodes:
        node.inputs = [new[name] for name in node.inputs]
        node.outputs = [new[name] for name in node.outputs]
    graph.batch_norm_stats = {new[name]: stats for name, stats in graph.batch_norm_stats.items()}


def _plain(value: Value) -> str:
    name = _SUFFIXES.sub("", value.name)
    # A value with the name of its ONNX tensor and no permutation is that tensor, shape included.
    return f"{name}.view" if name == value.source and value.source_perm is None else name


def _fresh(stem: str, taken: set[str]) -> str:
    name, n = stem, 1
    while name in taken:
        name, n = f"{stem}_{n}", n + 1
    return name
