# SPDX-License-Identifier: Apache-2.0
"""Interleaved measurement.

Machines are shared and their clocks move. Engines therefore take turns in short rounds, the order
rotating from round to round, and every call is timed on its own, so that each engine sees the same
disturbances. A claim is a ratio of medians within one run; gaps below five percent are ties.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns

import numpy as np

from edgekit.bench.peers import Run, open_edgekit, open_onnxruntime, peer
from edgekit.commands import Progress
from edgekit.errors import EdgekitError, InputError, first_line

ROUNDS = 40
MIN_CALLS = 3


@dataclass(frozen=True)
class Timing:
    """Latency of one engine, in microseconds.

    Attributes:
        median_us, min_us, p99_us: over all timed calls.
        load_us: from the file to an engine that is ready.
        first_run_us: the first call after that.
        calls: how many calls were timed.
    """

    engine: str
    median_us: float
    min_us: float
    p99_us: float
    load_us: float
    first_run_us: float
    calls: int


def bench(
    model: Path,
    *,
    threads: int = 1,
    kernels: str = "auto",
    vs: Sequence[str] = (),
    seconds: float = 1.0,
    progress: Progress | None = None,
) -> list[Timing]:
    """Times a model: a `.ekm` in the C runtime, an `.onnx` in ONNX Runtime.

    Args:
        vs: peers to measure in the same run, as `--vs` spells them.
        seconds: measuring time for each engine, warm-up excluded.

    Raises:
        InputError: a file or an engine is missing.
    """
    loaders = [_own(model, threads, kernels), *(peer(spec, model, threads) for spec in vs)]
    names = _distinct([name for name, _ in loaders])
    contenders = [_Contender(name, load) for name, (_, load) in zip(names, loaders, strict=True)]
    for contender in contenders:
        contender.warm_up(seconds / ROUNDS)
    gc.disable()
    try:
        for i in range(ROUNDS):
            turn = i % len(contenders)
            for contender in contenders[turn:] + contenders[:turn]:
                contender.round()
            if progress:
                progress("measuring", i + 1, ROUNDS)
    finally:
        gc.enable()
    return [contender.timing() for contender in contenders]


class _Contender:
    def __init__(self, name: str, load: Callable[[], Run]) -> None:
        start = perf_counter_ns()
        self._run = load()
        loaded = perf_counter_ns()
        try:
            self._run()
        except EdgekitError:
            raise
        except Exception as error:  # the exceptions of other engines share no base class
            raise InputError(f"{name} cannot run the model: {first_line(error)}") from error
        self._first, self._load = perf_counter_ns() - loaded, loaded - start
        self._name = name
        self._calls = MIN_CALLS
        self._times: list[int] = []

    def warm_up(self, seconds: float) -> None:
        """Runs for `seconds`, and finds how many calls fill a round of as long."""
        start, calls = perf_counter_ns(), 0
        while perf_counter_ns() - start < seconds * 1e9 or calls < MIN_CALLS:
            self._run()
            calls += 1
        self._calls = max(MIN_CALLS, int(calls * seconds * 1e9 / (perf_counter_ns() - start)))

    def round(self) -> None:
        run, times = self._run, self._times
        run()  # brings code and weights back into the caches that the others used
        for _ in range(self._calls):
            start = perf_counter_ns()
            run()
            times.append(perf_counter_ns() - start)

    def timing(self) -> Timing:
        times = np.array(self._times) / 1e3
        return Timing(
            engine=self._name,
            median_us=float(np.median(times)),
            min_us=float(times.min()),
            p99_us=float(np.percentile(times, 99)),
            load_us=self._load / 1e3,
            first_run_us=self._first / 1e3,
            calls=len(times),
        )


def _own(model: Path, threads: int, kernels: str) -> tuple[str, Callable[[], Run]]:
    if model.suffix == ".ekm":
        return "edgekit", lambda: open_edgekit(model, threads, kernels)
    if model.suffix == ".onnx":
        return "onnxruntime", lambda: open_onnxruntime(model, threads)
    raise InputError(f"{model}: not a .ekm or .onnx file")


def _distinct(names: list[str]) -> list[str]:
    """Names with a number where an engine takes part more than once."""
    return [name if names[:i].count(name) == 0 else f"{name}-{names[:i].count(name) + 1}" for i, name in enumerate(names)]
