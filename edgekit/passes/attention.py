# SPDX-License-Identifier: Apache-2.0
"""What the layers around attention have in common, brought into forms that move and compute less.

A dense layer whose output is only cut into parts becomes one layer per part: each part then has a scale of its
own, what follows one part alone folds into its weights, and no part is copied. A factor in front of a softmax
is a matter of its table. A second factor that was transposed so that its depth is no longer the innermost
dimension is taken as it was.
"""

from __future__ import annotations

import numpy as np

from edgekit.graph import Node
from edgekit.passes.affine import affine_of
from edgekit.passes.edit import Editor, Perm, Shape, reshaped_source, transposed_source


def split_dense(edit: Editor) -> bool:
    return edit.sweep(_split_dense)


def scale_softmax(edit: Editor) -> bool:
    return edit.sweep(_scale_softmax)


def transpose_products(edit: Editor) -> bool:
    return edit.sweep(_transpose_product)


def _scale_softmax(edit: Editor, node: Node) -> bool:
    """Softmax(a * x + b) -> Softmax of x with its factor, for a > 0: b cancels."""
    if node.op != "Softmax":
        return False
    first = edit.producer(node.inputs[0], "Unary")
    affine = affine_of(edit, first) if first is not None else None
    if affine is None or not (affine.mul > 0 and np.isfinite(affine.mul)):
        return False
    edit.rewrite(node, "Softmax", [affine.x], **{**node.attrs, "scale": float(affine.mul) * node.attrs.get("scale", 1.0)})
    return True


def _transpose_product(edit: Editor, node: Node) -> bool:
    """MatMul(a, Transpose(b)) -> transposed MatMul(a, b'), where that leaves b's innermost dimension in its place."""
    transpose = edit.producer(node.inputs[1], "Transpose") if node.op == "MatMul" else None
    if transpose is None or edit.only_reader(transpose.outputs[0]) is not node:
        return False
    *batch, rows, columns = transpose.attrs["perm"]
    if rows != len(batch) + 1:
        return False
    perm: Perm = (*batch, columns, rows)
    x = transpose.inputs[0]
    value = edit.value(x)
    moved = edit.add_value(f"{x}.moved", [value.shape[p] for p in perm], *transposed_source(value, perm))
    edit.insert(node, "Transpose", [x], moved, perm=perm)
    edit.rewrite(node, "MatMul", [node.inputs[0], moved], **{**node.attrs, "transposed": not node.attrs.get("transposed")})
    return True


def _split_dense(edit: Editor, node: Node) -> bool:
    """Slices of a Dense, of different output channels and with all rows -> a Dense each."""
    if node.op != "Dense" or "clip" in node.attrs:
        return False
    shape = edit.shape(node.outputs[0])
    parts = _parts(edit, node.outputs[0], np.arange(np.prod(shape)).reshape(shape))
    if parts is None or len(parts) < 2:
        return False
    channels = [_channels(index, shape) for _, index in parts]
    sources = [_source(edit, part, _part_shape(shape, c)) for (part, _), c in zip(parts, channels, strict=True) if c is not None]
    if len(sources) != len(parts) or None in sources:
        return False
    chosen = np.concatenate([c for c in channels if c is not None])
    if len(set(chosen.tolist())) != len(chosen):
        return False
    for (part, _), c, source in zip(parts, channels, sources, strict=True):
        assert c is not None and source is not None
        _dense_of(edit, node, part, c, source)
    return True


def _parts(edit: Editor, name: str, index: np.ndarray) -> list[tuple[Node, np.ndarray]] | None:
    """The Slices that `name` is cut into, straight or behind Reshapes, and the flat positions that each takes;
    None where anything else reads it."""
    if edit.graph.is_output(name):
        return None
    parts: list[tuple[Node, np.ndarray]] = []
    for reader in edit.readers(name):
        output = edit.shape(reader.outputs[0])
        if reader.op == "Reshape":
            inner = _parts(edit, reader.outputs[0], index.reshape(output))
            if inner is None:
                return None
            parts += inner
        elif reader.op == "Slice":
            steps = zip(reader.attrs["starts"], reader.attrs["steps"], output, strict=True)
            parts.append((reader, index[np.ix_(*(start + step * np.arange(n) for start, step, n in steps))]))
        else:
            return None
    return parts


def _channels(index: np.ndarray, shape: Shape) -> np.ndarray | None:
    """The channels of a Dense of `shape` that are at positions `index`, if they are the same in every row."""
    rows = int(np.prod(shape[:-1]))
    if index.size % rows:
        return None
    order = index.reshape(rows, -1) - np.arange(rows)[:, None] * shape[-1]
    same = (order == order[0]).all() and order.min() >= 0 and order.max() < shape[-1]
    return order[0] if same else None


def _part_shape(shape: Shape, channels: np.ndarray | None) -> Shape:
    return (*shape[:-1], 0 if channels is None else len(channels))


Source = tuple[str | None, Perm | None]
"""`source` and `source_perm` of a value."""


def _source(edit: Editor, part: Node, shape: Shape) -> Source | None:
    """The ONNX tensor with the numbers of a part: its own, or that of a Reshape of it.

    Without one no range could be learnt of the part, so that it has to stay: None. An affine function behind it
    will be folded into its weights and bring its own source.
    """
    reader = edit.only_reader(part.outputs[0])
    if reader is not None and affine_of(edit, reader) is not None:
        return None, None
    names = [part.outputs[0], *(r.outputs[0] for r in edit.readers(part.outputs[0]) if r.op == "Reshape")]
    for name in names:
        value = edit.value(name)
        if value.shape == shape and value.source is not None:
            return value.source, value.source_perm
        source, perm = reshaped_source(value, shape)
        if source is not None:
            return source, perm
    return None


def _dense_of(edit: Editor, dense: Node, part: Node, channels: np.ndarray, source: Source) -> None:
    """`part` becomes a Reshape of a Dense with only these channels."""
    w, b = (edit.constant(name) for name in dense.inputs[1:])
    assert w is not None and b is not None, dense.name
    output = edit.add_value(f"{part.outputs[0]}.dense", _part_shape(edit.shape(dense.outputs[0]), channels), *source)
    constants = [edit.add_constant(name, data[channels]) for name, data in zip(dense.inputs[1:], (w, b), strict=True)]
    edit.insert(part, "Dense", [dense.inputs[0], *constants], output)
    edit.rewrite(part, "Reshape", [output])
