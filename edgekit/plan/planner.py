# SPDX-License-Identifier: Apache-2.0
"""The memory plan of a program."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice, product

from edgekit.errors import ModelError
from edgekit.format.schema import MAX_ARENA_BYTES, Region
from edgekit.plan.layout import assign
from edgekit.plan.liveness import Buffer, buffers, choices, lower_bound, timeline
from edgekit.plan.order import reorder
from edgekit.program import Program

_MAX_CHOICES = 16
"""Combinations of in-place inputs that are tried where operators could take over either of two."""


@dataclass(frozen=True)
class PlanReport:
    """What `plan` did.

    Attributes:
        arena_bytes: size of the arena.
        lower_bound_bytes: peak of `timeline`; no plan for this order can be smaller.
        timeline: unpadded bytes that must be live at each operator.
        buffers: the pieces of the arena; a buffer of several tensors is rewritten in place.
        reordered: whether the operators were brought into a better order.
    """

    arena_bytes: int
    lower_bound_bytes: int
    timeline: list[int]
    buffers: list[Buffer]
    reordered: bool

    @property
    def inplace(self) -> list[tuple[str, str]]:
        """Pairs of an input and the output that takes its memory over."""
        return [pair for b in self.buffers for pair in zip(b.tensors, b.tensors[1:], strict=False)]


def plan(program: Program) -> PlanReport:
    """Sets the offset of every ARENA and IO tensor and `arena_bytes`, in place of an earlier plan.

    Operators are reordered if that lowers the peak.

    Raises:
        ModelError: the arena would exceed what the file format can express.
    """
    reordered = reorder(program)
    candidates = islice(product((0, 1), repeat=choices(program)), _MAX_CHOICES)
    best = min((buffers(program, choice) for choice in candidates), key=lambda b: assign(b, search=False))
    arena = assign(best)
    if arena > MAX_ARENA_BYTES:
        raise ModelError(f"{program.name}: needs {arena} bytes for activations; a .ekm file allows 2^31 - 1")

    for tensor in program.tensors.values():
        if tensor.region == Region.ARENA:
            tensor.offset = None
    for buffer in best:
        for name in buffer.tensors:
            program.tensors[name].offset = buffer.offset
    for index, name in enumerate((*program.inputs, *program.outputs)):
        program.tensors[name].offset = index
    program.arena_bytes = arena
    return PlanReport(arena, lower_bound(program), timeline(program), best, reordered)
