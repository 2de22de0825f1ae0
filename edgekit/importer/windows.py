# SPDX-License-Identifier: Apache-2.0
"""Makes the windows of convolutions and pools explicit: auto_pad and ceil_mode become pads.

ONNX's versions and ONNX Runtime disagree on the size that ceil_mode gives and on what
count_include_pad then counts. Rewritten here, before any shape is inferred, the model means one
thing to all of them: the current text (AveragePool-22, MaxPool-22), which is also PyTorch's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx
from onnx import helper

WINDOWED = ("Conv", "MaxPool", "AveragePool")


def explicit_window(
    node: onnx.NodeProto, inputs: Sequence[int], kernel: Sequence[int], opset: int
) -> tuple[list[onnx.NodeProto], dict[str, list[int]]]:
    """Spells out `node` with pads alone.

    Args:
        inputs: the spatial size of its input.
        kernel: the spatial size of its window.

    Returns:
        The nodes that replace it, and constants (name -> int64 values) that they read. The node itself
        where its attributes do not fit together; checks that come later name the fault.
    """
    attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    auto_pad = attrs.get("auto_pad", b"NOTSET")
    if auto_pad not in (b"NOTSET", b"VALID", b"SAME_UPPER", b"SAME_LOWER"):
        return [node], {}
    ceil_mode = bool(attrs.get("ceil_mode", 0))
    if auto_pad == b"NOTSET" and not ceil_mode:
        return [node], {}
    n = len(inputs)
    strides, dilations = attrs.get("strides") or [1] * n, attrs.get("dilations") or [1] * n
    declared = attrs.get("pads") or [0] * (2 * n)
    if not len(kernel) == len(strides) == len(dilations) == n or len(declared) != 2 * n:
        return [node], {}
    if min(*strides, *dilations, *kernel) < 1:
        return [node], {}
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    if auto_pad in (b"SAME_UPPER", b"SAME_LOWER"):
        pads = _same(inputs, strides, spans, upper=auto_pad == b"SAME_UPPER")
        return [_with_pads(node, pads)], {}
    if auto_pad == b"VALID":
        declared = [0] * (2 * n)
    begin, end = declared[:n], declared[n:]
    needed = [
        _ceil_pad(*sizes) for sizes in zip(inputs, begin, end, strides, spans, strict=True)
    ] if ceil_mode else end  # fmt: skip
    if attrs.get("count_include_pad", 0) and needed != end:
        return _counted_padding(node, begin, end, needed, opset)
    return [_with_pads(node, begin + needed)], {}


def _counted_padding(
    node: onnx.NodeProto, begin: list[int], end: list[int], needed: list[int], opset: int
) -> tuple[list[onnx.NodeProto], dict[str, list[int]]]:
    """An average pooling that counts its padding, as `explicit_window` returns it.

    What ceil_mode adds is not counted, what is declared is: the latter becomes part of the input.

    Args:
        begin, end: the declared pads.
        needed: those at the end with what ceil_mode adds.
    """
    extra = [b - a for a, b in zip(end, needed, strict=True)]
    pool = _with_pads(node, [0] * len(begin) + extra)
    pool.attribute.remove(next(a for a in pool.attribute if a.name == "count_include_pad"))
    if not any((*begin, *end)):
        return [pool], {}
    pool.input[0] = f"{node.output[0]}.padded"
    full = [0, 0, *begin, 0, 0, *end]
    if opset < 11:
        return [
            helper.make_node("Pad", [node.input[0]], [pool.input[0]], name=f"{node.name}.pad", pads=full),
            pool,
        ], {}
    pads_name = f"{node.output[0]}.pads"
    pad = helper.make_node("Pad", [node.input[0], pads_name], [pool.input[0]], name=f"{node.name}.pad")
    return [pad, pool], {pads_name: full}


def _same(inputs: Sequence[int], strides: Sequence[int], spans: Sequence[int], upper: bool) -> list[int]:
    """ceil(input / stride) outputs; an odd pad goes to the end for SAME_UPPER."""
    totals = [
        max((math.ceil(i / s) - 1) * s + span - i, 0)
        for i, s, span in zip(inputs, strides, spans, strict=True)
    ]
    small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return small + large if upper else large + small


def _ceil_pad(size: int, begin: int, end: int, stride: int, span: int) -> int:
    """The trailing pad with which rounding down gives ceil_mode's output size.

    A window that would start in the trailing pad is dropped.
    """
    outputs = math.ceil((size + begin + end - span) / stride) + 1
    if (outputs - 1) * stride >= size + begin:
        outputs -= 1
    return max(end, (outputs - 1) * stride + span - size - begin)


def _with_pads(node: onnx.NodeProto, pads: Sequence[int]) -> onnx.NodeProto:
    result = onnx.NodeProto()
    result.CopyFrom(node)
    kept = [a for a in result.attribute if a.name not in ("auto_pad", "ceil_mode", "pads")]
    del result.attribute[:]
    result.attribute.extend([*kept, helper.make_attribute("pads", list(pads))])
    return result
