# SPDX-License-Identifier: Apache-2.0
"""What must be in memory while each operator runs."""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.format.schema import Region
from edgekit.program import Program, inplace_inputs, lifetimes, tensor_bytes


@dataclass
class Buffer:
    """Memory that a chain of ARENA tensors takes over from one another.

    Attributes:
        tensors: in the order in which they live; all have `bytes` bytes.
        first, last: operators between which, both included, the memory is in use.
        offset: place in the arena, once assigned.
    """

    tensors: list[str]
    bytes: int
    first: int
    last: int
    offset: int = 0


def timeline(program: Program) -> list[int]:
    """Unpadded bytes of ARENA tensors that must be live at each operator, in place where that is allowed.

    An operator that can work in place needs one of its input and its output, not both.
    """
    lives = lifetimes(program)
    live = [0] * len(program.ops)
    for name, (first, last) in lives.items():
        if program.tensors[name].region == Region.ARENA:
            for index in range(first, last + 1):
                live[index] += tensor_bytes(program.tensors[name])
    for index, op in enumerate(program.ops):
        if inplace_inputs(program, index, lives):
            live[index] -= tensor_bytes(program.tensors[op.outputs[0]])
    return live


def lower_bound(program: Program) -> int:
    """The peak of `timeline`: no plan for this order of operators can need fewer bytes."""
    return max(timeline(program), default=0)


def buffers(program: Program, choice: tuple[int, ...] = ()) -> list[Buffer]:
    """One buffer per chain of tensors that operators rewrite in place.

    Where an operator could take over either of two inputs, `choice` says which: its entries belong to
    those operators in order and count candidates, missing ones are 0.
    """
    lives = lifetimes(program)
    owner: dict[str, Buffer] = {}
    picks = iter(choice)
    for index, op in enumerate(program.ops):
        candidates = inplace_inputs(program, index, lives)
        pick = next(picks, 0) if len(candidates) > 1 else 0
        for name in op.outputs:
            if program.tensors[name].region != Region.ARENA:
                continue
            first, last = lives[name]
            if candidates:
                buffer = owner[candidates[pick % len(candidates)]]
                buffer.tensors.append(name)
                buffer.last = last
            else:
                buffer = Buffer([name], tensor_bytes(program.tensors[name]), first, last)
            owner[name] = buffer
    return list({id(b): b for b in owner.values()}.values())


def choices(program: Program) -> int:
    """How many operators could take over either of two inputs."""
    lives = lifetimes(program)
    return sum(len(inplace_inputs(program, i, lives)) > 1 for i in range(len(program.ops)))
