# SPDX-License-Identifier: Apache-2.0
"""Work on several processors at once, with the same results on any number of them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ahead(function: Callable[[T], R], items: Iterable[T], at_once: int) -> Iterator[tuple[T, R]]:
    """Each item and what `function` makes of it, in order, computed by `at_once` threads.

    While the caller looks at one result, there are at most `at_once` - 1 others, being computed or waiting. What
    `items` and `function` raise is raised in its turn, behind the results before it.
    """
    if at_once <= 1:
        for item in items:
            yield item, function(item)
        return
    waiting: deque[tuple[T, Future[R]]] = deque()

    def oldest() -> tuple[T, R]:
        item, future = waiting.popleft()
        return item, future.result()

    pool = ThreadPoolExecutor(at_once)
    source = iter(items)
    try:
        while True:
            try:
                item = next(source)
            except StopIteration:
                break
            except Exception:
                while waiting:
                    yield oldest()
                raise
            waiting.append((item, pool.submit(function, item)))
            if len(waiting) == at_once:
                yield oldest()
        while waiting:
            yield oldest()
    finally:
        pool.shutdown(cancel_futures=True)
