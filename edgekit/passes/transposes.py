# SPDX-License-Identifier: Apache-2.0
"""Transposes: cancelled, merged and moved until few are left.

`sink` moves them behind the operators that can work in the other layout, where they meet
the inverse that an NHWC operator has in front of it. One that reads a model input stays there;
`anchor` does the same for other values that elementwise nodes read in one layout, spatial ones in another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

from edgekit.graph import Node
from edgekit.passes import dead_code
from edgekit.passes.edit import Editor, Perm, Shape, inverse, moves_only_units, transposed_source

_ONE_INPUT = ("Unary", "Slice", "Pad", "PRelu", "Softmax", "LayerNorm", "Dense")
_MANY_INPUTS = ("Add", "Sub", "Mul", "Concat")


_ELEMENTWISE = ("Unary", "Slice", "Pad", *_MANY_INPUTS)


def merge(edit: Editor) -> bool:
    return edit.sweep(_merge)


def sink(edit: Editor) -> bool:
    """One kind of move at a time, so that Transposes that can meet where they are do not walk off."""
    return any(edit.sweep(rule) for rule in (_merge, _across_reshape, _behind_reshape, _behind))


def anchor(edit: Editor) -> None:
    """Brings model inputs and results of Reshapes at once into the layout in which the network wants them.

    Such a value is read through a Transpose and back, and the second one sinks, so that what
    elementwise nodes do in between happens in the new layout. To be run once, after `merge`.
    """
    starts = [port.value for port in edit.graph.inputs]
    starts += [n.outputs[0] for n in edit.graph.nodes if n.op == "Reshape"]
    for name in starts:
        wanted = Counter(_wanted(edit, name))
        if not wanted or all(reader.op == "Transpose" for reader in edit.readers(name)):
            continue
        perm = wanted.most_common(1)[0][0]
        _anchor(edit, name, perm)
        # Nothing is merged yet, so that only one direction may move: the other would come back.
        while edit.sweep(partial(_behind, only=inverse(perm))):
            dead_code.run(edit)


def _wanted(edit: Editor, name: str) -> Iterator[Perm]:
    """The Transposes that `name` meets behind elementwise nodes."""
    seen, names = set(), [name]
    while names:
        for reader in edit.readers(names.pop()):
            if reader.op == "Transpose" and len(reader.attrs["perm"]) == len(edit.shape(name)):
                yield reader.attrs["perm"]
            elif reader.op in _ELEMENTWISE and id(reader) not in seen:
                seen.add(id(reader))
                names += reader.outputs


def _anchor(edit: Editor, name: str, perm: Perm) -> None:
    value = edit.value(name)
    readers = [node for node in edit.graph.nodes if name in node.inputs]
    source = transposed_source(value, perm)
    there = edit.add_value(f"{name}.anchored", [value.shape[p] for p in perm], *source)
    back = edit.add_value(f"{name}.back", value.shape, value.source, tuple(range(len(perm))))
    edit.insert(readers[0], "Transpose", [name], there, perm=perm)
    edit.insert(readers[0], "Transpose", [there], back, perm=inverse(perm))
    for reader in readers:
        edit.set_inputs(reader, [back if i == name else i for i in reader.inputs])


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


def _behind(edit: Editor, node: Node, only: Perm | None = None) -> bool:
    """f(Transpose(x)) -> Transpose(f'(x)), for Transposes by `only` where it is given."""
    if node.op not in (*_ONE_INPUT, *_MANY_INPUTS):
        return False
    for name in node.inputs:
        transpose = edit.producer(name, "Transpose")
        if transpose is None or edit.is_input(transpose.inputs[0]) or only not in (None, transpose.attrs["perm"]):
            continue
        if _sink_one(edit, node, transpose):
            return True
    return False


def _sink_one(edit: Editor, node: Node, transpose: Node) -> bool:
    perm: Perm = transpose.attrs["perm"]
    rank = len(perm)
    if node.op in ("PRelu", "Softmax", "LayerNorm", "Dense") and perm[-1] != rank - 1:
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


def _across_reshape(edit: Editor, node: Node) -> bool:
    """Transpose(Reshape(Transpose(x))) -> Reshape(Transpose(x)): what is left of a channel shuffle."""
    reshape = edit.producer(node.inputs[0], "Reshape") if node.op == "Transpose" else None
    first = edit.producer(reshape.inputs[0], "Transpose") if reshape else None
    if reshape is None or first is None or edit.only_reader(reshape.outputs[0]) is not node:
        return False
    output, middle = edit.value(node.outputs[0]), edit.value(reshape.inputs[0])
    # Seen from behind: output.transpose(inverse).reshape is the middle value.
    swapped = swap_with_reshape(output.shape, inverse(node.attrs["perm"]), middle.shape)
    if swapped is None:
        return False
    shape, perm = swapped
    merged = tuple(first.attrs["perm"][p] for p in inverse(perm))
    moved = edit.add_value(f"{middle.name}.moved", shape, *transposed_source(middle, inverse(perm)))
    edit.insert(node, "Transpose", first.inputs, moved, perm=merged)
    edit.rewrite(node, "Reshape", [moved])
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
