# SPDX-License-Identifier: Apache-2.0
"""An order of operators whose memory peak is lower, where there is one.

A state is the set of operators that have run; the search goes through states by the lowest peak on the way
there (a bottleneck shortest path), and so finds the best order of all. Networks have few branches, so
there are few states; a net with too many keeps its order.
"""

from __future__ import annotations

import heapq

from edgekit.format.schema import Region
from edgekit.plan.liveness import lower_bound
from edgekit.program import Op, Program, tensor_bytes

_MAX_STATES = 10_000


def reorder(program: Program) -> bool:
    """Reorders the operators of `program` if that lowers the peak; tells whether it did."""
    before, ops = lower_bound(program), program.ops
    order = _Search(program, before).best()
    if order is None:
        return False
    program.ops = [ops[i] for i in order]
    if lower_bound(program) < before:
        return True
    program.ops = ops
    return False


class _Search:
    def __init__(self, program: Program, peak: int) -> None:
        self.program = program
        self.peak = peak
        self.ops: list[Op] = program.ops
        arena = {n: tensor_bytes(t) for n, t in program.tensors.items() if t.region == Region.ARENA}
        names = [name for op in self.ops for name in op.outputs if name in arena]
        self.bytes = [arena[name] for name in names]
        self.number = {name: i for i, name in enumerate(names)}
        self.readers = [0] * len(names)
        writer = {name: i for i, op in enumerate(self.ops) for name in op.outputs}
        self.before = [0] * len(self.ops)
        for index, op in enumerate(self.ops):
            for name in op.inputs:
                if name in writer:
                    self.before[index] |= 1 << writer[name]
                if name in self.number:
                    self.readers[self.number[name]] |= 1 << index
        self.writer = [1 << writer[name] for name in names]

    def best(self) -> list[int] | None:
        """Operator indexes in the best order; None where it is no better or was not found."""
        everything = (1 << len(self.ops)) - 1
        # Ties go to the order that starts with lower indexes: the program's own.
        heap: list[tuple[int, tuple[int, ...], int]] = [(0, (), 0)]
        seen: set[int] = set()
        while heap:
            peak, path, state = heapq.heappop(heap)
            if state == everything:
                return list(path) if peak < self.peak else None
            if state in seen:
                continue
            seen.add(state)
            if len(seen) > _MAX_STATES:
                return None
            live = self._live(state)
            for index in range(len(self.ops)):
                if not state >> index & 1 and self.before[index] & ~state == 0:
                    need = max(peak, self._need(state, live, index))
                    if need < self.peak:
                        heapq.heappush(heap, (need, (*path, index), state | 1 << index))
        return None

    def _live(self, state: int) -> int:
        """Bytes that are written and still to be read after the operators of `state`."""
        return sum(
            size
            for size, writer, readers in zip(self.bytes, self.writer, self.readers, strict=True)
            if state & writer and readers & ~state
        )

    def _need(self, state: int, live: int, index: int) -> int:
        """Bytes that are live while operator `index` runs in `state`."""
        op = self.ops[index]
        outputs = [self.number[n] for n in op.outputs if n in self.number]
        need = live + sum(self.bytes[n] for n in outputs)
        for place in op.inplace if outputs else ():
            name = op.inputs[place]
            if name not in self.number:
                continue
            dies = self.readers[self.number[name]] & ~state == 1 << index
            if dies and self.bytes[self.number[name]] == self.bytes[outputs[0]]:
                return need - self.bytes[outputs[0]]
        return need
