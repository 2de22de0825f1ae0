# SPDX-License-Identifier: Apache-2.0
"""Transposes: cancelled, merged and moved until few are left.

`sink` moves them behind the operators that can work in the other layout, where they meet
the inverse that an NHWC operator has in front of it. `hoist` moves those that are left up to
the model input that they come from, so that, say, a Pad in between reaches its convolution.
The two never run in the same fixpoint.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.graph import Node
from edgekit.passes.edit import Editor, Perm, Shape, inverse, moves_only_units, transposed_source

_ONE_INPUT = ("Unary", "Slice", "Pad", "PRelu", "Softmax", "Dense")
_MANY_INPUTS = ("Add", "Sub", "Mul", "Concat")


def sink(edit: Editor) -> bool:
    changed = edit.sweep(_merge)
    changed |= edit.sweep(_behind_reshape)
    return edit.sweep(_behind) or changed


def hoist(edit: Editor) -> bool:
    return edit.sweep(_merge) | edit.sweep(_before)


def _merge(edit: Editor, node: Node) -> bool:
    """Transpose(Transpose(x)) -> one Transpose, or x."""
    if node.op != "Transpose":
        return False
    perm = node.attrs["perm"]
    if list(perm) == sorted(perm) and edit.bypass(node, node.inputs[0]):
        return True
    first = edit.producer(node.inputs[0], "Transpose")
    if first is None:
        return False
    merged = tuple(first.attrs["perm"][p] for p in perm)
    if list(merged) == sorted(merged) and edit.bypass(node, first.inputs[0]):
        return True
    edit.rewrite(node, "Transpose", first.inputs, perm=merged)
    return True


# Down.


def _behind(edit: Editor, node: Node) -> bool:
    """f(Transpose(x)) -> Transpose(f'(x))"""
    if node.op not in (*_ONE_INPUT, *_MANY_INPUTS):
        return False
    for name in node.inputs:
        transpose = edit.producer(name, "Transpose")
        # One that stands at a model input stays there: see `hoist`.
        movable = transpose is not None and not edit.is_input(transpose.inputs[0])
        if transpose is not None and movable and _sink_one(edit, node, transpose):
            return True
    return False


def _sink_one(edit: Editor, node: Node, transpose: Node) -> bool:
    perm: Perm = transpose.attrs["perm"]
    rank = len(perm)
    if node.op in ("PRelu", "Softmax", "Dense") and perm[-1] != rank - 1:
        return False
    if len(edit.shape(node.outputs[0])) != rank:
        return False
    inputs: list[str] | None = [transpose.inputs[0], *node.inputs[1:]]
    if node.op in _MANY_INPUTS:
        inputs = _operands_before(edit, node, transpose)
    if inputs is None:
        return False
    _move_attributes(node, inverse(perm))
    output = edit.value(node.outputs[0])
    shape = tuple(output.shape[i] for i in inverse(perm))
    moved = edit.add_value(f"{output.name}.moved", shape, *transposed_source(output, inverse(perm)))
    stats = edit.graph.batch_norm_stats.get(output.name)
    if stats is not None and stats[0].size == shape[-1]:
        edit.graph.batch_norm_stats[moved] = stats
    edit.set_inputs(node, inputs)
    edit.set_output(node, moved)
    edit.insert_behind(node, "Transpose", [moved], output.name, perm=perm)
    return True


def _operands_before(edit: Editor, node: Node, transpose: Node) -> list[str] | None:
    """The inputs of `node` as they are in front of `transpose`; None where one costs a Transpose of its own.

    Creates the constants and Reshapes that this takes, after it is clear that every input has its form.
    """
    perm: Perm = transpose.attrs["perm"]
    forms = [_form(edit, name, transpose) for name in node.inputs]
    if any(form is None for form in forms):
        return None
    if "existing" in forms and edit.only_reader(transpose.outputs[0]) is not node:
        # Otherwise two layouts of one value could chase each other.
        return None
    names = zip(node.inputs, forms, strict=True)
    return [_operand(edit, node, name, form or "", inverse(perm)) for name, form in names]


def _form(edit: Editor, name: str, transpose: Node) -> str | None:
    """How `name` is had in the layout in front of `transpose`."""
    perm: Perm = transpose.attrs["perm"]
    producer = edit.producer(name, "Transpose")
    if producer is not None and tuple(producer.attrs["perm"]) == tuple(perm):
        return "transposed"
    if edit.constant(name) is not None:
        return "constant"
    if moves_only_units(_padded(edit.shape(name), len(perm)), inverse(perm)):
        return "reshape"
    return None if _existing(edit, name, inverse(perm)) is None else "existing"


def _existing(edit: Editor, name: str, perm: Perm) -> str | None:
    """The output of a Transpose of `name` that is there already."""
    for reader in edit.readers(name):
        if reader.op == "Transpose" and tuple(reader.attrs["perm"]) == perm:
            return reader.outputs[0]
    return None


def _operand(edit: Editor, node: Node, name: str, form: str, perm: Perm) -> str:
    if form == "transposed":
        producer = edit.producer(name)
        assert producer is not None
        return producer.inputs[0]
    shape = _padded(edit.shape(name), len(perm))
    if form == "constant":
        data = edit.constant(name)
        assert data is not None
        return edit.add_constant(name, data.reshape(shape).transpose(perm))
    if form == "existing":
        return _bring_forward(edit, node, name, perm)
    reshaped = edit.add_value(f"{name}.moved", [shape[p] for p in perm])
    edit.insert(node, "Reshape", [name], reshaped)
    return reshaped


def _bring_forward(edit: Editor, node: Node, name: str, perm: Perm) -> str:
    """The existing Transpose of `name`, or a copy where it stands behind `node`."""
    existing = _existing(edit, name, perm)
    assert existing is not None
    order = {id(n): i for i, n in enumerate(edit.graph.nodes)}
    producer = edit.producer(existing)
    if order[id(producer)] < order[id(node)]:
        return existing
    value = edit.value(existing)
    copy = edit.add_value(f"{name}.moved", value.shape, value.source, value.source_perm)
    edit.insert(node, "Transpose", [name], copy, perm=perm)
    return copy


def _padded(shape: Shape, rank: int) -> Shape:
    return (1,) * (rank - len(shape)) + tuple(shape)


def _move_attributes(node: Node, perm: Sequence[int]) -> None:
    """Attributes that speak of dimensions, for data under `transpose(perm)`."""
    if node.op == "Concat":
        node.attrs["axis"] = list(perm).index(node.attrs["axis"] % len(perm))
    for key in ("starts", "steps", "before", "after"):
        if node.op in ("Slice", "Pad") and key in node.attrs:
            node.attrs[key] = tuple(node.attrs[key][p] for p in perm)


# Across reshapes.


def _behind_reshape(edit: Editor, node: Node) -> bool:
    """Reshape(Transpose(x)) -> Transpose(Reshape(x)) where no group of dimensions is torn apart."""
    transpose = edit.producer(node.inputs[0], "Transpose") if node.op == "Reshape" else None
    if transpose is None or edit.is_input(transpose.inputs[0]):
        return False
    x, output = transpose.inputs[0], edit.value(node.outputs[0])
    swapped = swap_with_reshape(edit.shape(x), transpose.attrs["perm"], output.shape)
    if swapped is None:
        return False
    shape, perm = swapped
    middle = edit.add_value(f"{output.name}.moved", shape, *transposed_source(output, inverse(perm)))
    edit.insert(node, "Reshape", [x], middle)
    edit.rewrite(node, "Transpose", [middle], perm=perm)
    return True


def swap_with_reshape(shape: Shape, perm: Perm, output: Shape) -> tuple[Shape, Perm] | None:
    """(middle, q) with `x.transpose(perm).reshape(output) == x.reshape(middle).transpose(q)`; None where there is none."""
    transposed = tuple(shape[p] for p in perm)
    groups = _groups(transposed, output)
    # Position among the dimensions of x that are not 1.
    rank_of = {axis: i for i, axis in enumerate(a for a, n in enumerate(shape) if n != 1)}
    placed = []
    for before, after in groups:
        ranks = [rank_of[perm[i]] for i in before]
        if ranks != list(range(ranks[0], ranks[0] + len(ranks))):
            return None
        placed.append((ranks[0], after))
    leading = [a for a in range(len(output)) if not groups or a < groups[0][1][0]]
    order = leading + [a for _, after in sorted(placed) for a in after]
    return tuple(output[a] for a in order), inverse(order)


def _groups(before: Shape, after: Shape) -> list[tuple[list[int], list[int]]]:
    """The finest consecutive groups of dimensions with equal products.

    Dimensions of size 1 are left out of the first list; in the second they go with the group in front.
    """
    left = [i for i, n in enumerate(before) if n != 1]
    right = [i for i, n in enumerate(after) if n != 1]
    groups: list[tuple[list[int], list[int]]] = []
    while left:
        a, b = [left.pop(0)], [right.pop(0)]
        product_a, product_b = before[a[0]], after[b[0]]
        while product_a != product_b:
            if product_a < product_b:
                a.append(left.pop(0))
                product_a *= before[a[-1]]
            else:
                b.append(right.pop(0))
                product_b *= after[b[-1]]
        groups.append((a, list(range(b[0], right[0] if right else len(after)))))
    return groups


# Up.


def _before(edit: Editor, node: Node) -> bool:
    """Transpose(f(x)) -> f'(Transpose(x)) on the way to a model input."""
    if node.op != "Transpose":
        return False
    producer = edit.producer(node.inputs[0])
    if producer is None or not _can_rise(edit, producer, node):
        return False
    perm: Perm = node.attrs["perm"]
    inputs = [_raised_operand(edit, producer, name, perm) for name in producer.inputs]
    _move_attributes(producer, perm)
    edit.set_inputs(producer, inputs)
    edit.take_over(producer, node)
    return True


def _can_rise(edit: Editor, node: Node, reader: Node) -> bool:
    """Whether a Transpose behind `node`, needed by `reader` alone, can go up to model inputs."""
    if node.op not in ("Unary", "Slice", "Pad", *_MANY_INPUTS) or edit.only_reader(node.outputs[0]) is not reader:
        return False
    for name in node.inputs:
        producer = edit.producer(name)
        fed = edit.constant(name) is not None or edit.is_input(name)
        if not fed and producer is not None and producer.op == "Transpose":
            fed = edit.is_input(producer.inputs[0])
        if not fed and (producer is None or not _can_rise(edit, producer, node)):
            return False
    return True


def _raised_operand(edit: Editor, node: Node, name: str, perm: Perm) -> str:
    shape = _padded(edit.shape(name), len(perm))
    data = edit.constant(name)
    if data is not None:
        return edit.add_constant(name, data.reshape(shape).transpose(perm))
    if len(edit.shape(name)) < len(perm):
        widened = edit.add_value(f"{name}.wide", shape)
        edit.insert(node, "Reshape", [name], widened)
        name = widened
    source = transposed_source(edit.value(name), perm)
    raised = edit.add_value(f"{name}.raised", [shape[p] for p in perm], *source)
    edit.insert(node, "Transpose", [name], raised, perm=perm)
    return raised
