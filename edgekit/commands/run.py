# SPDX-License-Identifier: Apache-2.0
"""Samples through the C runtime, from DATA to arrays."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from edgekit.atomic import write_atomically
from edgekit.commands import Progress
from edgekit.data import DataSource, Preprocessing, npz_bytes, real_part
from edgekit.engines import EdgekitEngine, Feed, Sample
from edgekit.errors import InputError
from edgekit.files import check_destination
from edgekit.runtime import kernels as kernel_sets
from edgekit.runtime.model import MAX_THREADS


def run_data(
    model: Path,
    data: DataSource,
    preprocessing: Preprocessing | None = None,
    *,
    kernels: str = "auto",
    threads: int = 1,
    batch_threads: int = 1,
    pipeline: int = 1,
    samples: int | None = None,
    on: str | None = None,
    output: Path | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, np.ndarray], str]:
    """Outputs by name, samples along the first dimension, and the kernel set that was used.

    Args:
        threads: that share the work of one sample.
        batch_threads: samples that are computed at the same time, each by an instance with `threads` threads;
            the results are the same bits.
        pipeline: stages, each on a thread of its own, that the samples pass one after the other; the same bits, too.
        on: address of a board that runs them, `ssh://user@host`; one inference at a time.
        output: also writes them there, an `.npz`, complete or not at all.

    Raises:
        InputError: the model, the data or an option cannot be used, or `output` cannot be written.
    """
    if output is not None:
        if output.suffix != ".npz":
            raise InputError(f"{output}: outputs are written as .npz; name it so")
        check_destination(output, model, data)
    with _opened(model, kernels, threads, on) as (engine, used):
        _check_parallel("--batch-threads", batch_threads, engine, on)
        _check_parallel("--pipeline", pipeline, engine, on)
        if pipeline > 1 and (threads > 1 or batch_threads > 1):
            raise InputError("--pipeline: a stage is one thread's; leave out --threads and --batch-threads")
        feed = engine.open(data, preprocessing or Preprocessing(), samples)
        results: dict[str, list[np.ndarray]] = {port.name: [] for port in engine.model.outputs}
        done = 0
        for sample, arrays in _run_all(engine, feed, batch_threads, pipeline):
            for name, array in arrays.items():
                results[name].append(real_part(array, sample.size, sample.count))
            done += sample.count
            if progress:
                progress("running", done, feed.samples)
    outputs = {name: np.concatenate(arrays) for name, arrays in results.items()}
    if output is not None:
        write_atomically(output, npz_bytes(outputs))
    return outputs, used


@contextmanager
def _opened(model: Path, kernels: str, threads: int, on: str | None) -> Iterator[tuple[EdgekitEngine, str]]:
    """What runs the model, here or on a board, and its kernel set."""
    if on is None:
        engine = EdgekitEngine(model, kernels, threads)
        yield engine, kernel_sets.best() if kernels == "auto" else kernels
        return
    from edgekit.remote import Board
    from edgekit.remote.engine import BoardEngine

    with Board(on) as board, board.serve() as client:
        yield BoardEngine(model, board, client, kernels, threads), board.best if kernels == "auto" else kernels


def _check_parallel(option: str, count: int, engine: EdgekitEngine, on: str | None) -> None:
    """Whether samples can be under way at the same time, if that is asked for."""
    if not 1 <= count <= MAX_THREADS:
        raise InputError(f"{option} must be 1 to {MAX_THREADS}, not {count}")
    if count == 1:
        return
    if on is not None:
        raise InputError(f"{on}: a board computes samples in turn; leave out {option}")
    if engine.model.state_bytes:
        raise InputError(f"{engine.path}: computes samples in turn, as it keeps state between them; leave out {option}")


def _run_all(
    engine: EdgekitEngine, feed: Feed, batch_threads: int, pipeline: int
) -> Iterator[tuple[Sample, Mapping[str, np.ndarray]]]:
    """Each sample with its outputs, in the order of `feed`; few samples wait, however many there are."""
    if pipeline > 1:
        yield from _run_pipeline(engine, feed, pipeline)
    elif batch_threads > 1:
        yield from _run_side_by_side(engine, feed, batch_threads)
    else:
        for sample in feed:
            yield sample, engine.run(sample.arrays)


def _run_side_by_side(
    engine: EdgekitEngine, feed: Feed, batch_threads: int
) -> Iterator[tuple[Sample, Mapping[str, np.ndarray]]]:
    with ThreadPoolExecutor(batch_threads) as pool:
        running: deque[tuple[Sample, Future[dict[str, np.ndarray]]]] = deque()
        for sample in feed:
            running.append((sample, pool.submit(engine.run, sample.arrays)))
            if len(running) > 2 * batch_threads:
                first, outputs = running.popleft()
                yield first, outputs.result()
        for sample, outputs in running:
            yield sample, outputs.result()


def _run_pipeline(
    engine: EdgekitEngine, feed: Feed, stages: int
) -> Iterator[tuple[Sample, Mapping[str, np.ndarray]]]:
    running: deque[Sample] = deque()

    def arrays() -> Iterator[dict[str, np.ndarray]]:
        for sample in feed:
            running.append(sample)
            yield sample.arrays

    for outputs in engine.model.stream(arrays(), stages, kernels=engine.kernels):
        yield running.popleft(), outputs
