# SPDX-License-Identifier: Apache-2.0
"""Which channels of an ONNX model have to go together.

Every index of every channel dimension carries a label. A layer with weights makes new labels for
its outputs; all other operators pass labels on, and where two meet, element by element (a
residual Add, a gate), they become one *unit*: channels that only leave together. A unit that reaches
something that cannot shrink (a model output, a Reshape that splits channels) is frozen.

The labels along a tensor also say how it shrinks: `Cut` for a constant, `Resize` for what an
attribute or shape input says. The idea is that of DepGraph (Fang et al., CVPR 2023), with labels
in place of pairwise dependencies, which makes concat, split and flatten plain array operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

FIXED = -1
"""The label of an index that always stays."""

Labels = tuple[np.ndarray | None, ...]
"""Per dimension the label of each index; None where the whole dimension stays."""


@dataclass(frozen=True)
class Cut:
    """Dimension `axis` of constant `tensor` has these labels. `weight` marks a layer's own weights."""

    tensor: str
    axis: int
    labels: np.ndarray
    weight: bool = False


@dataclass(frozen=True)
class Resize:
    """Calls `apply(keep)` on the final model, where `keep` tells of labels whether they stay."""

    apply: Callable[[Callable[[np.ndarray], np.ndarray]], None]


@dataclass
class Units:
    """Union-find over labels; `group` joins the layers whose labels met."""

    parent: list[int] = field(default_factory=list)
    origin: list[int] = field(default_factory=list)
    frozen: set[int] = field(default_factory=set)
    layers: list[int] = field(default_factory=list)

    def new(self, count: int) -> np.ndarray:
        """Labels of the outputs of a new layer."""
        first, layer = len(self.parent), len(self.layers)
        self.layers.append(layer)
        self.parent.extend(range(first, first + count))
        self.origin.extend([layer] * count)
        return np.arange(first, first + count)

    def find(self, label: int) -> int:
        """The unit of a label, named by one of its labels."""
        while self.parent[label] != label:
            self.parent[label] = self.parent[self.parent[label]]
            label = self.parent[label]
        return label

    def group(self, label: int) -> int:
        """The layers that a label's layer is tied to, named by one of them."""
        layer = self.origin[label]
        while self.layers[layer] != layer:
            self.layers[layer] = self.layers[self.layers[layer]]
            layer = self.layers[layer]
        return layer

    def join(self, a: int, b: int) -> None:
        if FIXED in (a, b):
            self.freeze(np.array([a, b]))
            return
        group_a, group_b = self.group(a), self.group(b)
        a, b = self.find(a), self.find(b)
        if a != b:
            self.parent[b] = a
            if b in self.frozen:
                self.frozen.add(a)
        self.layers[group_b] = group_a

    def freeze(self, labels: np.ndarray | None) -> None:
        for label in () if labels is None else labels.ravel():
            if label != FIXED:
                self.frozen.add(self.find(int(label)))

    def removable(self) -> dict[int, list[int]]:
        """group -> its units that may go, in order."""
        groups: dict[int, list[int]] = {}
        for label in range(len(self.parent)):
            if self.find(label) == label and label not in self.frozen:
                groups.setdefault(self.group(label), []).append(label)
        return groups


class ChannelGraph:
    """Labels of every tensor of a model, and what each dimension of its constants carries.

    The model is changed in one way: a constant that several nodes read becomes one constant per
    reader, as each may shrink differently; `copies` maps the new ones to the old.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.units = Units()
        self.cuts: list[Cut] = []
        self.resizes: list[Resize] = []
        self.labels: dict[str, Labels] = {}
        self.copies: dict[str, str] = {}
        self._separate_constants()
        self.constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self.shapes = static_shapes(model)
        for value in model.graph.input:
            self.labels[value.name] = (None,) * len(self.shapes[value.name])
        for node in model.graph.node:
            rule = RULES.get(node.op_type, _opaque) if node.domain in ("", "ai.onnx") else _opaque
            rule(self, node)
        for value in model.graph.output:
            self.freeze(value.name)

    # What rules use.

    def known(self, tensor: str) -> Labels:
        """Labels of an activation, or of a constant, which has none."""
        return self.labels.get(tensor) or (None,) * len(self.shapes[tensor])

    def give(self, tensor: str, labels: Labels) -> None:
        assert len(labels) == len(self.shapes[tensor]), tensor
        self.labels[tensor] = labels

    def freeze(self, tensor: str) -> None:
        """All channels of `tensor` stay."""
        for labels in self.known(tensor) if tensor else ():
            self.units.freeze(labels)

    def meet(self, a: np.ndarray | None, b: np.ndarray | None) -> np.ndarray | None:
        """The labels of a dimension where two tensors meet element by element."""
        if a is None or b is None:
            self.units.freeze(a)
            self.units.freeze(b)
            return None
        for x, y in zip(a, b, strict=True):
            self.units.join(int(x), int(y))
        return a

    def cut(self, tensor: str, axis: int, labels: np.ndarray | None, weight: bool = False) -> None:
        if labels is not None:
            self.cuts.append(Cut(tensor, axis, labels, weight))

    def _separate_constants(self) -> None:
        graph = self.model.graph
        known = {t.name: t for t in graph.initializer}
        seen: set[str] = set()
        for node in graph.node:
            for i, name in enumerate(node.input):
                if name in known and name in seen:
                    copy = graph.initializer.add()
                    copy.CopyFrom(known[name])
                    copy.name = node.input[i] = _fresh(f"{name}.{i}", {*known, *seen})
                    self.copies[copy.name] = name
                seen.add(node.input[i])


def _fresh(name: str, used: set[str]) -> str:
    while name in used:
        name += "_"
    return name


def static_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """tensor name -> shape, constants included, by ONNX's shape inference."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    shapes = {t.name: tuple(t.dims) for t in inferred.initializer}
    for info in (*inferred.input, *inferred.value_info, *inferred.output):
        if info.type.tensor_type.HasField("shape"):
            shapes[info.name] = tuple(d.dim_value for d in info.type.tensor_type.shape.dim)
    return shapes


def opset(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that `model` uses."""
    return next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def set_attribute(node: onnx.NodeProto, name: str, value: Any) -> None:
    kept = [a for a in node.attribute if a.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, onnx.helper.make_attribute(name, value)])


# Rules, one per kind of operator.


def _opaque(graph: ChannelGraph, node: onnx.NodeProto) -> None:
    """An operator that nothing is known of: what it touches stays."""
    for name in node.input:
        if name in graph.labels:
            graph.freeze(name)
    for name in node.output:
        if name:
            graph.labels[name] = (None,) * len(graph.shapes.get(name, ()))


def _pass_on(graph: ChannelGraph, node: onnx.NodeProto) -> None:
    """Same shape, or other sizes of dimensions without labels."""
    graph.give(node.output[0], graph.known(node.input[0]))


def _conv(graph: ChannelGraph, node: onnx.NodeProto) -> None:
    x, w = node.input[:2]
    if w not in graph.constants:
        return _opaque(graph, node)
    out, depth = graph.shapes[w][:2]
    groups = int(attributes(node).get("group", 1))
    labels = graph.known(x)[1]
    result: np.ndarray | None
    if groups == 1:
        graph.cut(w, 1, labels, weight=True)
        result = graph.units.new(out)
    elif depth == 1:
        result = _depthwise(graph, node, labels, out // groups)
    else:
        result = _grouped(graph, node, labels, groups)
    graph.cut(w, 0, result, weight=True)
    if len(node.input) > 2 and node.input[2]:
        if node.input[2] in graph.constants:
            graph.cut(node.input[2], 0, result)
        else:
            graph.units.freeze(result)
    graph.give(node.output[0], (None, result, *[None] * (len(graph.shapes[w]) - 2)))
    return None


def _depthwise(
    graph: ChannelGraph, node: onnx.NodeProto, labels: np.ndarray | None, multiplier: int
) -> np.ndarray | None:
    """Output channel o is input channel o // multiplier; the number of groups follows."""
    if labels is None:
        return None
    graph.resizes.append(Resize(lambda keep: set_attribute(node, "group", int(keep(labels).sum()))))
    return np.repeat(labels, multiplier)


def _grouped(graph: ChannelGraph, node: onnx.NodeProto, labels: np.ndarray | None, groups: int) -> np.ndarray:
    """All groups keep one size: channel j of every group is one unit, on both sides."""
    w = node.input[1]
    if labels is not None:
        rows = labels.reshape(groups, -1)
        for row in rows[1:]:
            graph.meet(rows[0], row)
        graph.cut(w, 1, rows[0], weight=True)
    result = graph.units.new(graph.shapes[w][0])
    rows = result.reshape(groups, -1)
    for row in rows[1:]:
        graph.meet(rows[0], row)
    return result


def _gemm(graph: ChannelGraph, node: onnx.NodeProto) -> None:
    x, w = node.input[:2]
    attrs = attributes(node)
    if w not in graph.constants or attrs.get("transA", 0):
        return _opaque(graph, node)
    inner, outer = (1, 0) if attrs.get("transB", 0) else (0, 1)
    graph.cut(w, inner, graph.known(x)[1], weight=True)
    result = graph.units.new(graph.shapes[w][outer])
    graph.cut(w, outer, result, weight=True)
    if len(node.input) > 2 and node.input[2]:
        _addend(graph, node.input[2], result)
    graph.give(node.output[0], (None, result))
    return None


def _addend(graph: ChannelGraph, c: str, labels: np.ndarray) -> None:
    """C of a Gemm, broadcast along the rows and perhaps the columns."""
    if c not in graph.constants:
        graph.units.freeze(labels)
        graph.freeze(c)
    elif graph.shapes[c] and graph.shapes[c][-1] == labels.size and labels.size > 1:
        graph.cut(c, len(graph.shapes[c]) - 1, labels)


def _matmul(graph: ChannelGraph, node: onnx.NodeProto) -> None:
    x, w = node.input
    if w not in graph.constants or len(graph.shapes[w]) != 2 or len(graph.shapes[x]) < 2:
        return _opaque(graph, node)
    labels = graph.known(x)
    graph.cut(w, 0, labels[-1], weight=True)
    result = graph.units.new(graph.shapes[w][1])
    graph.cut(w, 1, result, weight=True)
    graph.give(node.output[0], (*labels[:-1], result))
    return None


def _batch_norm(graph: ChannelGraph, node: onnx.NodeProto) -> None:
    labels = graph.known(node.input[0])
    for name in node.input[1:5]:
        if name in graph.constants:
            graph.cut(name, 0, labels[1])
        else:
            graph.units.freeze(labels[1])
    graph.give(node.output[0], labels)


def _elementwise(graph: ChannelGraph, node: onnx.NodeProto) -> None:
    """Any number of tensors with broadcasting; constants shrink with what they meet."""
    output = graph.shapes[node.output[0]]
    names = [name for name in node.input if name]
    result: list[np.ndarray | None] = []
    for axis, size in enumerate(output):
        present = [(n, axis - len(output) + len(graph.shapes[n])) for n in names]
        full = [(n, a) for n, a in present if a >= 0 and graph.shapes[n][a] == size and size > 1]
        computed = [graph.known(n)[a] for n, a in full if n not in graph.constants]
        labels = computed[0] if computed else None
        for other in computed[1:]:
            labels = graph.meet(labels, other)
        if size == 1:
            for n, a in present:
                graph.units.freeze(graph.known(n)[a] if a >= 0 else None)
        for n, a in full:
            if n in graph.constants:
                graph.cut(n, a, labels)
        result.append(labels)
    graph.give(node.output[0], tuple(result))


def _spatial(graph: ChannelGraph, node: onnx.NodeProto) -> None:
    """Works inside each channel of [N, C, ...]."""
    labels = graph.known(node.input[0])
    for extra in labels[2:]:
        graph.units.freeze(extra)
    graph.give(node.output[0], (*labels[:2], *[None] * (len(labels) - 2)))


def _resize(graph: ChannelGraph, node: onnx.NodeProto) -> None:
    """As other spatial operators; where the output's sizes are an input, they follow the channels."""
    labels = graph.known(node.input[0])[1]
    sizes = _ints(graph, node, 3, "")
    if labels is not None and len(node.input) > 3 and node.input[3]:
        if sizes is None or attributes(node).get("axes"):
            return _opaque(graph, node)

        def apply(keep: Callable[[np.ndarray], np.ndarray]) -> None:
            fresh = [sizes[0], int(keep(labels).sum()), *sizes[2:]]
            node.input[3] = _int_constant(graph.model, f"{node.output[0]}.sizes", fresh)

        graph.resizes.append(Resize(apply))
    return _spatial(graph, node)


def _pad(graph: ChannelGraph, node: onnx.NodeProto) -> None:
    labels = graph.known(node.input[0])
    widths = _ints(graph, node, 1, "pads")
    if widths is None or len(widths) != 2 * len(labels) or (len(node.input) > 3 and node.input[3]):
        return _opaque(graph, node)
    result = []
    for axis, here in enumerate(labels):
        before, after = widths[axis], widths[axis + len(labels)]
        if here is not None and (before or after):
            graph.units.freeze(here)
            here = None
        result.append(here)
    graph.give(node.output[0], tuple(result))
    return None


def _ints(graph: ChannelGraph, node: onnx.NodeProto, index: int, attribute: str) -> list[int] | None:
    """Integers that are an attribute in old opsets and a constant input in new ones; None where neither."""
    if len(node.input) > index and node.input[index]:
        data = graph.constants.get(node.input[index])
        return None if data is None else [int(v) for v in data.reshape(-1)]
    values = attributes(node).get(attribute)
    return None if values is None else [int(v) for v in np.atleast_1d(values)]


def _concat(graph: ChannelGraph, node: onnx.NodeProto) -> None:
    rank = len(graph.shapes[node.output[0]])
    axis = int(attributes(node)["axis"]) % rank
    result: list[np.ndarray | None] = []
    for dim in range(rank):
        parts = [graph.known(name)[dim] for name in node.input]
        if dim == axis:
            result.append(_joined(parts, [graph.shapes[name][dim] for name in node.input]))
        else:
            labels = parts[0]
            for part in parts[1:]:
                labels = graph.meet(labels, part)
            result.append(labels)
    graph.give(node.output[0], tuple(result))


def _joined(parts: Sequence[np.ndarray | None], sizes: Sequence[int]) -> np.ndarray | None:
    if all(part is None for part in parts):
        return None
    return np.concatenate([np.full(n, FIXED) if p is None else p for p, n in zip(parts, sizes, strict=True)])


def _split(graph: ChannelGraph, node: onnx.NodeProto) -> None:
    labels = graph.known(node.input[0])
    axis = int(attributes(node).get("axis", 0)) % len(labels)
    here = labels[axis]
    if here is None:
        for name in node.output:
            graph.give(name, labels)
        return
    parts, start = [], 0
    for name in node.output:
        size = graph.shapes[name][axis]
        parts.append(here[start : start + size])
        graph.give(name, (*labels[:axis], parts[-1], *labels[axis + 1 :]))
        start += size

    def apply(keep: Callable[[np.ndarray], np.ndarray]) -> None:
        sizes = [int(keep(part).sum()) for part in parts]
        if opset(graph.model) < 13:
            set_attribute(node, "split", sizes)
            return
        del node.input[1:]
        node.input.append(_int_constant(graph.model, f"{node.output[0]}.split", sizes))
        kept = [a for a in node.attribute if a.name != "num_outputs"]
        del node.attribute[:]
        node.attribute.extend(kept)

    graph.resizes.append(Resize(apply))


def _int_constant(model: onnx.ModelProto, stem: str, values: Sequence[int]) -> str:
    name = _fresh(stem, {t.name for t in model.graph.initializer})
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(values, np.int64), name))
    return name


def _slice(graph: ChannelGraph, node: onnx.NodeProto) -> None:
    x, y = node.input[0], node.output[0]
    labels, shape = graph.known(x), graph.shapes[x]
    starts, ends = _ints(graph, node, 1, "starts"), _ints(graph, node, 2, "ends")
    if starts is None or ends is None or any(len(n) > 0 and n not in graph.constants for n in node.input[1:]):
        return _opaque(graph, node)
    axes = _ints(graph, node, 3, "axes") or list(range(len(starts)))
    steps = _ints(graph, node, 4, "steps") or [1] * len(starts)
    result = list(labels)
    touched: list[tuple[int, np.ndarray, int, int]] = []
    for i, (axis, start, end, step) in enumerate(zip(axes, starts, ends, steps, strict=True)):
        here = labels[axis]
        if here is None:
            continue
        first, last, _ = slice(start, end, step).indices(shape[axis])
        if step != 1 or len(node.input) < 3:
            graph.units.freeze(here)
            result[axis] = None
            continue
        result[axis] = here[first:last]
        touched.append((i, here, first, last))
    graph.give(y, tuple(result))
    if touched:
        graph.resizes.append(Resize(lambda keep: _move_slice(graph, node, touched, starts, ends, keep)))
    return None


def _move_slice(
    graph: ChannelGraph,
    node: onnx.NodeProto,
    touched: Sequence[tuple[int, np.ndarray, int, int]],
    starts: list[int],
    ends: list[int],
    keep: Callable[[np.ndarray], np.ndarray],
) -> None:
    starts, ends = list(starts), list(ends)
    for i, labels, first, last in touched:
        starts[i], ends[i] = int(keep(labels[:first]).sum()), int(keep(labels[:last]).sum())
    node.input[1] = _int_constant(graph.model, f"{node.output[0]}.starts", starts)
    node.input[2] = _int_constant(graph.model, f"{node.output[0]}.ends", ends)


def _transpose(graph: ChannelGraph, node: onnx.NodeProto) -> None:
    labels = graph.known(node.input[0])
    perm = attributes(node).get("perm", list(range(len(labels)))[::-1])
    graph.give(node.output[0], tuple(labels[p] for p in perm))


def _reduce(graph: ChannelGraph, node: onnx.NodeProto) -> None:
    """Labels of dimensions that are reduced stay; the others keep theirs."""
    labels = graph.known(node.input[0])
    attrs = attributes(node)
    axes = _ints(graph, node, 1, "axes")
    if len(node.input) > 1 and node.input[1] and axes is None:
        return _opaque(graph, node)
    if not axes and attrs.get("noop_with_empty_axes", 0):
        return _pass_on(graph, node)
    reduced = {a % len(labels) for a in axes} if axes else set(range(len(labels)))
    for axis in reduced:
        graph.units.freeze(labels[axis])
    keep = attrs.get("keepdims", 1)
    result = [None if a in reduced else here for a, here in enumerate(labels) if keep or a not in reduced]
    graph.give(node.output[0], tuple(result))
    return None


def _last_dimension_stays(graph: ChannelGraph, node: onnx.NodeProto) -> None:
    """Softmax and its like mix the channels along their axis."""
    labels = graph.known(node.input[0])
    axis = int(attributes(node).get("axis", -1)) % len(labels)
    graph.units.freeze(labels[axis])
    graph.give(node.output[0], (*labels[:axis], None, *labels[axis + 1 :]))


def _reshape(graph: ChannelGraph, node: onnx.NodeProto) -> None:
    """Flatten, Reshape, Squeeze, Unsqueeze: labels survive where dimensions merge or come through whole."""
    x, y = node.input[0], node.output[0]
    labels = reshaped_labels(graph.known(x), graph.shapes[x], graph.shapes[y])
    if labels is None:
        return _opaque(graph, node)
    graph.give(y, labels)
    if node.op_type == "Reshape" and any(here is not None for here in labels):
        shape = graph.shapes[y]

        def apply(keep: Callable[[np.ndarray], np.ndarray]) -> None:
            sizes = [n if here is None else int(keep(here).sum()) for n, here in zip(shape, labels, strict=True)]
            node.input[1] = _int_constant(graph.model, f"{y}.shape", sizes)

        graph.resizes.append(Resize(apply))
    return None


def reshaped_labels(labels: Labels, before: tuple[int, ...], after: tuple[int, ...]) -> Labels | None:
    """Labels behind a reshape; None where it splits a dimension with labels or merges two of them."""
    result: list[np.ndarray | None] = [None] * len(after)
    for source, target in factors(before, after):
        labelled = [i for i in source if labels[i] is not None]
        if not labelled:
            continue
        if len(labelled) > 1 or len(target) != 1:
            return None
        shape = [before[i] for i in source]
        own = [before[i] if i == labelled[0] else 1 for i in source]
        here = labels[labelled[0]]
        assert here is not None
        result[target[0]] = np.broadcast_to(here.reshape(own), shape).reshape(-1)
    if any(here is not None and before[i] == 1 for i, here in enumerate(labels)):
        return None
    return tuple(result)


def factors(before: tuple[int, ...], after: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """The finest consecutive groups of dimensions with equal products, dimensions of size 1 left out."""
    left = [i for i, n in enumerate(before) if n != 1]
    right = [i for i, n in enumerate(after) if n != 1]
    groups = []
    while left and right:
        a, b = [left.pop(0)], [right.pop(0)]
        while (pa := math.prod(before[i] for i in a)) != (pb := math.prod(after[i] for i in b)):
            if pa < pb:
                a.append(left.pop(0))
            else:
                b.append(right.pop(0))
        groups.append((a, b))
    return groups


RULES: dict[str, Callable[[ChannelGraph, onnx.NodeProto], None]] = {
    **dict.fromkeys(
        ("Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Elu", "Celu", "Selu", "Erf", "Exp", "Log",
         "Sqrt", "Abs", "Neg", "Reciprocal", "Softplus", "Softsign", "Mish", "Gelu", "Swish", "ThresholdedRelu", "Floor",
         "Ceil", "Round", "Sign", "Sin", "Cos", "Clip", "Identity", "Dropout", "Cast"),
        _pass_on,
    ),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Pow", "Sum", "Mean", "Max", "Min"), _elementwise),
    **dict.fromkeys(("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"), _spatial),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"), _reduce),
    **dict.fromkeys(("Softmax", "LogSoftmax"), _last_dimension_stays),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
    "Conv": _conv,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_norm,
    "PRelu": _elementwise,
    "Pad": _pad,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Resize": _resize,
    "Transpose": _transpose,
}  # fmt: skip
"""Operator -> its rule; operators that are not here freeze what they touch."""
