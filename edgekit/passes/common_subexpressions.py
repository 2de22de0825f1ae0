# SPDX-License-Identifier: Apache-2.0
"""Merges nodes that compute the same from the same values."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from edgekit.graph import Node
from edgekit.passes.edit import Editor


def run(edit: Editor) -> bool:
    first: dict[Hashable, str] = {}

    def merge(edit: Editor, node: Node) -> bool:
        key = (node.op, tuple(node.inputs), edit.shape(node.outputs[0]), _hashable(node.attrs))
        known = first.setdefault(key, node.outputs[0])
        return known != node.outputs[0] and edit.bypass(node, known)

    return edit.sweep(merge)


def _hashable(attribute: Any) -> Hashable:
    if isinstance(attribute, dict):
        return tuple((k, _hashable(v)) for k, v in sorted(attribute.items()))
    if isinstance(attribute, (list, tuple)):
        return tuple(_hashable(v) for v in attribute)
    if isinstance(attribute, np.ndarray):
        return attribute.shape, attribute.tobytes()
    return attribute
