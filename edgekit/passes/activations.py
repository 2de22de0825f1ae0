# SPDX-License-Identifier: Apache-2.0
"""Activations spelled out in nodes, brought together as functions of one variable.

x * sigmoid(x), x * relu6(x + 3) / 6, 0.5 * x * (1 + erf(x / sqrt(2))) and whatever else depends on
one value only is one Unary node and so one table, however it is written. A result that
agrees with a named function gets its name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from edgekit.graph import Node
from edgekit.passes import unary
from edgekit.passes.edit import Editor
from edgekit.passes.unary import Chain

_JOIN = {"Add": "Sum", "Mul": "Product"}


def collapse(edit: Editor) -> bool:
    """Joins the two operands of an Add, Sub or Mul that are functions of the same value."""
    changed = edit.sweep(_collapse)
    return edit.sweep(_absorb_scale) or changed


def merge(edit: Editor) -> bool:
    """Makes one node of Unary nodes in a row."""
    return edit.sweep(_merge)


def _collapse(edit: Editor, node: Node) -> bool:
    if node.op not in ("Add", "Sub", "Mul") or "clip" in node.attrs:
        return False
    if any(edit.shape(name) != edit.shape(node.outputs[0]) for name in node.inputs):
        return False
    left, right = (_ancestry(edit, name) for name in node.inputs)
    shared = next((name for name in left if name in right), None)
    if shared is None or edit.constant(shared) is not None:
        return False
    a, b = left[shared], right[shared]
    if node.op == "Sub":
        b = (*b, ("Neg", {}))
    steps: Chain = ((_JOIN.get(node.op, "Sum"), {"left": a, "right": b}),)
    edit.rewrite(node, "Unary", [shared], **unary.attributes(recognize(steps)))
    return True


def _ancestry(edit: Editor, name: str) -> dict[str, Chain]:
    """`name` as a function of itself and of each value that Unary nodes lead from, nearest first."""
    steps: Chain = ()
    found = {name: steps}
    while (node := edit.producer(name, "Unary")) is not None:
        name, steps = node.inputs[0], unary.chain(node) + steps
        found[name] = steps
    return found


def _absorb_scale(edit: Editor, node: Node) -> bool:
    """Takes the factor behind a joined function into it where the result has a name: ... / 6, ... * 0.5."""
    if node.op != "Unary" or unary.chain(node)[-1][0] != "Affine":
        return False
    first = edit.producer(node.inputs[0], "Unary")
    if first is None or not _is_joined(unary.chain(first)) or edit.only_reader(node.inputs[0]) is not node:
        return False
    steps = unary.chain(first) + unary.chain(node)
    named = recognize(steps)
    if named == steps:
        return False
    edit.rewrite(node, "Unary", first.inputs, **unary.attributes(named))
    return True


def _merge(edit: Editor, node: Node) -> bool:
    first = edit.producer(node.inputs[0], "Unary") if node.op == "Unary" else None
    if first is None or edit.only_reader(node.inputs[0]) is not node:
        return False
    steps = recognize(unary.chain(first) + unary.chain(node))
    edit.rewrite(node, "Unary", first.inputs, **unary.attributes(steps))
    return True


# Names.

_POINTS = np.concatenate([np.linspace(-12, 12, 961), -np.geomspace(12, 1e4, 40), np.geomspace(12, 1e4, 40)])
_TOLERANCE = 1e-6
"""Relative above 1, absolute below: constants in the file are float32, GELU's two forms differ by 5e-4."""


def recognize(steps: Chain) -> Chain:
    """The one named step that computes the same as a chain with joined functions in it, else `steps`."""
    if not _is_joined(steps):
        return steps
    y = unary.run(steps, _POINTS)
    for candidate in _candidates(steps):
        expected = unary.run((candidate,), _POINTS)
        with np.errstate(invalid="ignore"):
            if (np.abs(y - expected) <= _TOLERANCE * np.maximum(1.0, np.abs(expected))).all():
                return (candidate,)
    return steps


def _is_joined(steps: Chain) -> bool:
    return any(fn in _JOIN.values() for fn, _ in steps)


def _candidates(steps: Chain) -> Iterator[unary.Step]:
    yield "HardSwish", {}
    yield "Gelu", {"approximate": 0}
    yield "Gelu", {"approximate": 1}
    yield "Mish", {}
    at_zero, at_one, at_two = unary.run(steps, np.array([0.0, 1.0, 2.0]))
    if 0.0 < at_one < 1.0:
        # x * logistic(alpha * x) at 1 tells alpha.
        alpha = math.log(at_one / (1.0 - at_one))
        yield "Swish", {"alpha": 1.0 if abs(alpha - 1.0) < _TOLERANCE else alpha}
    if math.isfinite(at_zero) and math.isfinite(at_one):
        yield "Affine", {"mul": float(at_one - at_zero), "add": float(at_zero)}
    if at_one == 1.0 and at_two > 0.0:
        yield "Pow", {"exponent": float(round(math.log2(at_two)))}
