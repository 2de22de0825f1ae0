# SPDX-License-Identifier: Apache-2.0
"""Pad nodes become the padding of the convolution or pool behind them."""

from __future__ import annotations

import math

from edgekit.graph import Node
from edgekit.passes.bounds import Range, known_ranges
from edgekit.passes.edit import Editor


def run(edit: Editor) -> bool:
    ranges = known_ranges(edit.graph)
    changed = edit.sweep(_merge)
    return edit.sweep(lambda e, node: _fold(e, node, ranges)) or changed


def _merge(edit: Editor, node: Node) -> bool:
    """Drops empty Pads and makes one of two with the same value."""
    if node.op != "Pad":
        return False
    if not any(node.attrs["before"]) and not any(node.attrs["after"]):
        return edit.bypass(node, node.inputs[0])
    first = edit.producer(node.inputs[0], "Pad")
    if first is None or first.attrs["value"] != node.attrs["value"]:
        return False
    sums = {k: tuple(a + b for a, b in zip(first.attrs[k], node.attrs[k], strict=True)) for k in ("before", "after")}
    edit.rewrite(node, "Pad", first.inputs, value=node.attrs["value"], **sums)
    return True


def _fold(edit: Editor, node: Node, ranges: dict[str, Range]) -> bool:
    pad = edit.producer(node.inputs[0], "Pad") if "pads" in node.attrs else None
    if pad is None or not _is_spatial(pad):
        return False
    if node.op == "AveragePool":
        fits = _fits_average_pool(node, pad)
    elif node.op == "MaxPool":
        fits = _fits_max_pool(edit, node, pad, ranges.get(pad.inputs[0], (-math.inf, math.inf))[0])
    else:
        fits = pad.attrs["value"] == 0
    if not fits:
        return False
    added = (*pad.attrs["before"][1:3], *pad.attrs["after"][1:3])
    node.attrs["pads"] = tuple(a + b for a, b in zip(node.attrs["pads"], added, strict=True))
    if node.op == "AveragePool":
        node.attrs["count_include_pad"] = True
    edit.set_inputs(node, [pad.inputs[0], *node.inputs[1:]])
    return True


def _is_spatial(pad: Node) -> bool:
    """Whether it adds, and does not cut, rows and columns alone of an NHWC image."""
    widths = list(zip(pad.attrs["before"], pad.attrs["after"], strict=True))
    return len(widths) == 4 and widths[0] == widths[3] == (0, 0) and min(min(w) for w in widths) >= 0


def _fits_average_pool(node: Node, pad: Node) -> bool:
    """The pool counts the zeros of the Pad; its own padding has to count as well then."""
    return pad.attrs["value"] == 0 and (node.attrs["count_include_pad"] or not any(node.attrs["pads"]))


def _fits_max_pool(edit: Editor, node: Node, pad: Node, lowest: float) -> bool:
    """The pool ignores padding: right where the Pad's value never wins over the input.

    It would win where a window holds nothing else.
    """
    if pad.attrs["value"] == -math.inf:
        return True
    return pad.attrs["value"] <= lowest and _every_window_meets_input(edit, node, pad)


def _every_window_meets_input(edit: Editor, node: Node, pad: Node) -> bool:
    output, size = edit.shape(node.outputs[0])[1:3], edit.shape(pad.inputs[0])[1:3]
    for axis in range(2):
        offset = node.attrs["pads"][axis] + pad.attrs["before"][1 + axis]
        step, gap = node.attrs["strides"][axis], node.attrs["dilations"][axis]
        for position in range(output[axis]):
            taps = (position * step - offset + gap * k for k in range(node.attrs["kernel"][axis]))
            if not any(0 <= tap < size[axis] for tap in taps):
                return False
    return True
