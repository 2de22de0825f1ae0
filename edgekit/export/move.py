# SPDX-License-Identifier: Apache-2.0
"""Operators that move values: the same on 8-bit data, in whatever layout the data has."""

from __future__ import annotations

import numpy as np

from edgekit.export.builder import Builder, identity
from edgekit.program import Concat, Pad, Reshape, ResizeNearest, Slice, Transpose

BEFORE_FIRST = -(2**62)
"""A slice's end in front of element 0: any end below -size is clamped there."""


def reshape(b: Builder, op: Reshape) -> None:
    name, shape = b.output_name(op), b.shape(op.outputs[0])
    b.reshape(b.read_flat(op.inputs[0]), shape, output=name)
    b.place(op.outputs[0], name, identity(len(shape)))


def transpose(b: Builder, op: Transpose) -> None:
    """Only another name for a layout: y.transpose(p) is x.transpose(perm[p])."""
    x = b.placements[op.inputs[0]]
    b.place(op.outputs[0], x.name, tuple(op.perm.index(d) for d in x.perm))


def strided_slice(b: Builder, op: Slice) -> None:
    layout = b.perm(op.inputs[0])
    starts, steps = np.array(op.starts), np.array(op.steps)
    ends = starts + steps * np.array(b.shape(op.outputs[0]))
    ends[(steps < 0) & (ends < 0)] = BEFORE_FIRST
    order = list(layout)
    vectors = [b.ints(v[order]) for v in (starts, ends)]
    axes = b.ints(range(len(layout)))
    b.write(op, "Slice", [b.read(op.inputs[0], layout), *vectors, axes, b.ints(steps[order])], layout)


def pad(b: Builder, op: Pad) -> None:
    layout = b.perm(op.inputs[0])
    before = np.array(op.before)
    after = np.array(b.shape(op.outputs[0])) - np.array(b.shape(op.inputs[0])) - before
    order = list(layout)
    pads = b.ints([*before[order], *after[order]])
    b.write(op, "Pad", [b.read(op.inputs[0], layout), pads, b.zero(op.value)], layout)


def concat(b: Builder, op: Concat) -> None:
    layout = b.perm(op.inputs[0])
    b.write(op, "Concat", [b.read(name, layout) for name in op.inputs], layout, axis=layout.index(op.axis))


def resize_nearest(b: Builder, op: ResizeNearest) -> None:
    """Resize computes its source indexes in float; Gather takes the program's as they are."""
    layout = b.perm(op.inputs[0])
    rows, cols = b.ints(op.rows), b.ints(op.cols)
    tall = b.node("Gather", [b.read(op.inputs[0], layout), rows], axis=layout.index(1))
    b.write(op, "Gather", [tall, cols], layout, axis=layout.index(2))
