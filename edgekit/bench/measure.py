# SPDX-License-Identifier: Apache-2.0
"""`edgekit bench`: a model here, peers interleaved in the same run."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns
from typing import Protocol

from edgekit.bench.isolated import Isolated
from edgekit.bench.peers import IsolatedModel, Run, open_edgekit, open_onnxruntime, peer
from edgekit.bench.rounds import Times, interleave
from edgekit.bench.server import Stopwatch
from edgekit.commands import Progress
from edgekit.errors import EdgekitError, InputError, first_line

ROUNDS = 40


@dataclass(frozen=True)
class Timing:
    """Latency of one engine, in microseconds.

    Attributes:
        median_us, min_us, p99_us: over all readings of the clock; between two of them is one call, or as many as take
            20 microseconds.
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


class _Engine(Protocol):
    """A contender that is loaded and has run once."""

    @property
    def times(self) -> Times: ...
    @property
    def load_us(self) -> float: ...
    @property
    def first_run_us(self) -> float: ...
    @property
    def group(self) -> int: ...
    def warm_up(self, seconds: float) -> None: ...
    def round(self) -> None: ...


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
    with ExitStack() as stack:
        engines = [_engine(name, load, threads, stack) for name, (_, load) in zip(names, loaders, strict=True)]
        for engine in engines:
            engine.warm_up(seconds / ROUNDS)
        gc.disable()
        try:
            interleave(engines, ROUNDS, lambda done: progress("measuring", done, ROUNDS) if progress else None)
        finally:
            gc.enable()
        return [_timing(name, engine) for name, engine in zip(names, engines, strict=True)]


class _Local:
    """An engine in this process."""

    def __init__(self, name: str, load: Callable[[], Run]) -> None:
        start = perf_counter_ns()
        run = load()
        loaded = perf_counter_ns()
        try:
            run()
        except EdgekitError:
            raise
        except Exception as error:  # the exceptions of other engines share no base class
            raise InputError(f"{name} cannot run the model: {first_line(error)}") from error
        self.first_run_us, self.load_us = (perf_counter_ns() - loaded) / 1e3, (loaded - start) / 1e3
        self.times = Times()
        self._watch = Stopwatch(run)

    @property
    def group(self) -> int:
        return self._watch.group

    def warm_up(self, seconds: float) -> None:
        self._watch.warm_up(seconds)

    def round(self) -> None:
        self.times.add(self._watch.round())


def _engine(name: str, load: Callable[[], Run] | IsolatedModel, threads: int, stack: ExitStack) -> _Engine:
    if not isinstance(load, IsolatedModel):
        return _Local(name, load)
    isolated = stack.enter_context(Isolated(load.peer.runner(threads)))
    path, inputs = load.prepare(stack)
    isolated.start(path, threads, inputs)
    return isolated


def _timing(name: str, engine: _Engine) -> Timing:
    times = engine.times
    return Timing(
        engine=name,
        median_us=times.median_us,
        min_us=times.min_us,
        p99_us=times.p99_us,
        load_us=engine.load_us,
        first_run_us=engine.first_run_us,
        calls=times.count * engine.group,
    )


def _own(model: Path, threads: int, kernels: str) -> tuple[str, Callable[[], Run] | IsolatedModel]:
    if model.suffix == ".ekm":
        return "edgekit", lambda: open_edgekit(model, threads, kernels)
    if model.suffix == ".onnx":
        return "onnxruntime", lambda: open_onnxruntime(model, threads)
    raise InputError(f"{model}: not a .ekm or .onnx file")


def _distinct(names: list[str]) -> list[str]:
    """Names with a number where an engine takes part more than once."""
    return [name if names[:i].count(name) == 0 else f"{name}-{names[:i].count(name) + 1}" for i, name in enumerate(names)]
