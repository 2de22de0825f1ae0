# SPDX-License-Identifier: Apache-2.0
"""Offsets for buffers with fixed lifetimes: dynamic storage allocation, offline.

The problem is NP-hard, and easy for most networks. Buffers are placed one after the other, each at
the lowest offset that is free while it lives; several orders are tried (by size, lifetime,
area; Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020), then a branch
and bound over all orders for few buffers and a local search for many, until the bound is met.
Everything is deterministic.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from edgekit.format.schema import ARENA_ALIGN
from edgekit.plan.liveness import Buffer

_SEARCH_STEPS = 20_000
"""Placements of one buffer that the searches may spend: about a second."""


def padded(size: int) -> int:
    """`size` rounded up to the alignment of offsets."""
    return size + -size % ARENA_ALIGN


def assign(buffers: Sequence[Buffer], search: bool = True) -> int:
    """Sets the offsets of `buffers`; `search` says whether to go beyond the greedy orders.

    Returns:
        The size of the arena.
    """
    if not buffers:
        return 0
    problem = _Problem(buffers)
    best = min((problem.place(order) for order in problem.orders()), key=problem.size)
    if search and problem.size(best) > problem.bound:
        best = problem.branch_and_bound(best)
    if search and problem.size(best) > problem.bound:
        best = problem.local_search(best)
    for buffer, offset in zip(buffers, best, strict=True):
        buffer.offset = offset
    return problem.size(best)


class _Problem:
    def __init__(self, buffers: Sequence[Buffer]) -> None:
        self.sizes = [padded(b.bytes) for b in buffers]
        self.spans = [(b.first, b.last) for b in buffers]
        count = len(buffers)
        self.neighbours = [
            [j for j in range(count) if j != i and self._together(i, j)] for i in range(count)
        ]
        times = range(max(last for _, last in self.spans) + 1)
        self.loads = [
            sum(s for s, (first, last) in zip(self.sizes, self.spans, strict=True) if first <= t <= last)
            for t in times
        ]
        self.bound = max(self.loads)

    def _together(self, i: int, j: int) -> bool:
        return self.spans[i][0] <= self.spans[j][1] and self.spans[j][0] <= self.spans[i][1]

    def size(self, offsets: Sequence[int]) -> int:
        return max(o + s for o, s in zip(offsets, self.sizes, strict=True))

    def orders(self) -> list[list[int]]:
        """Greedy orders; ties go to the buffer that comes first in the program."""
        length = [last - first + 1 for first, last in self.spans]
        breadth = [max(self.loads[first : last + 1]) for first, last in self.spans]
        keys: list[Callable[[int], tuple[int, ...]]] = [
            lambda i: (-self.sizes[i], -length[i]),
            lambda i: (-self.sizes[i] * length[i],),
            lambda i: (-length[i], -self.sizes[i]),
            lambda i: (-breadth[i], -self.sizes[i]),
            lambda i: (self.spans[i][0], -length[i]),
            lambda i: (-self.spans[i][1], -length[i]),
        ]
        # sorted is stable: ties stay in index order.
        return [sorted(range(len(self.sizes)), key=key) for key in keys]

    def lowest(self, item: int, offsets: Sequence[int]) -> int:
        """The lowest free offset for `item` among placed neighbours; -1 stands for not placed."""
        taken = sorted((offsets[j], offsets[j] + self.sizes[j]) for j in self.neighbours[item] if offsets[j] >= 0)
        at = 0
        for start, end in taken:
            if at + self.sizes[item] <= start:
                break
            at = max(at, end)
        return at

    def place(self, order: Sequence[int]) -> list[int]:
        offsets = [-1] * len(self.sizes)
        for item in order:
            offsets[item] = self.lowest(item, offsets)
        return offsets

    def branch_and_bound(self, best: list[int]) -> list[int]:
        """Depth first over orders of ascending offset, which include an optimal one; gives up after
        `_SEARCH_STEPS`."""
        best_size = self.size(best)
        steps = _SEARCH_STEPS
        offsets = [-1] * len(self.sizes)

        def descend(left: int, floor: int, top: int) -> None:
            nonlocal best, best_size, steps
            if left == 0:
                best, best_size = offsets.copy(), top
                return
            steps -= left
            moves = []
            for item in range(len(offsets)):
                if offsets[item] >= 0:
                    continue
                at = self.lowest(item, offsets)
                if at + self.sizes[item] >= best_size:
                    return  # later placements only raise it
                if at >= floor:
                    moves.append((at, -self.sizes[item], item))
            for at, _, item in sorted(moves):
                if steps <= 0 or best_size <= self.bound:
                    return
                offsets[item] = at
                descend(left - 1, at, max(top, at + self.sizes[item]))
                offsets[item] = -1

        if len(offsets) <= 200:  # the depth of the recursion
            descend(len(offsets), 0, 0)
        return best

    def local_search(self, best: list[int]) -> list[int]:
        """Moves a buffer that reaches the top to the front of the order, or two of them around."""
        generator = random.Random(0)
        order = sorted(range(len(best)), key=lambda i: (best[i], i))
        best_size = current = self.size(best)
        for _ in range(_SEARCH_STEPS // len(order) + 1):
            trial = order.copy()
            if generator.random() < 0.5:
                offsets = self.place(order)
                top = self.size(offsets)
                high = [i for i in order if offsets[i] + self.sizes[i] == top]
                item = generator.choice(high)
                trial.remove(item)
                trial.insert(generator.randrange(len(order)), item)
            else:
                i, j = generator.randrange(len(order)), generator.randrange(len(order))
                trial[i], trial[j] = trial[j], trial[i]
            offsets = self.place(trial)
            size = self.size(offsets)
            if size <= current:
                order, current = trial, size
            if size < best_size:
                best, best_size = offsets, size
            if best_size <= self.bound:
                break
        return best
