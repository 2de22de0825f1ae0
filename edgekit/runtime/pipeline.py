# SPDX-License-Identifier: Apache-2.0
"""Streams of samples through a pipeline over stages: behind `Model.stream`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import DataError, InputError
from edgekit.runtime import kernels as kernel_sets
from edgekit.runtime.kernels import _native
from edgekit.runtime.model import MAX_THREADS

if TYPE_CHECKING:
    from edgekit.runtime.model import Model

Arrays = Mapping[str, np.ndarray]

SLOTS_PER_STAGE = 2
"""One at work and one that waits, so that stages that take turns in being slow still keep each other busy."""

COST_RUNS = 5


def stream(
    model: Model,
    samples: Iterable[np.ndarray | Arrays],
    stages: int,
    kernels: str,
    cuts: Sequence[int] | None,
) -> Iterator[dict[str, np.ndarray]]:
    """See `Model.stream`; options are checked at once, samples as they are taken."""
    kernel_sets.mask(kernels)
    if not isinstance(stages, (int, np.integer)) or not 1 <= stages <= MAX_THREADS:
        raise InputError(f"stages must be 1 to {MAX_THREADS}, not {stages}")
    begins = None if cuts is None else [int(cut) for cut in cuts]
    if begins is not None and (begins[:1] != [0] or any(b <= a for a, b in pairwise(begins))):
        raise InputError(f"cuts must begin with 0 and grow, unlike {begins}")
    if begins is not None and len(begins) > MAX_THREADS:
        raise InputError(f"cuts make {len(begins)} stages; {MAX_THREADS} at most")
    if model.state_bytes:
        raise InputError(
            f"{model!r} keeps state from one run to the next: use run, which computes samples in turn"
        )
    return _outputs(model, iter(samples), stages, kernels, begins)


def _outputs(
    model: Model,
    samples: Iterator[np.ndarray | Arrays],
    stages: int,
    kernels: str,
    cuts: Sequence[int] | None,
) -> Iterator[dict[str, np.ndarray]]:
    pipeline: Pipeline | None = None
    failure: Exception | None = None  # what came before it is returned first, as it would be one by one
    try:
        while failure is None:
            try:
                sample = next(samples)
            except StopIteration:
                break
            except Exception as error:
                failure = error
                break
            try:
                if pipeline is None:
                    begins = cuts or measured_cuts(model, sample, stages, kernels)
                    pipeline = Pipeline(model, sample, kernels, begins)
                pipeline.push(sample)
            except Exception as error:
                failure = error
                break
            if pipeline.is_full:
                yield pipeline.pop()
        while pipeline is not None and pipeline.inside:
            yield pipeline.pop()
        if failure is not None:
            raise failure
    finally:
        failure = None  # its traceback holds this frame
        if pipeline is not None:
            pipeline.close()  # frames in that traceback hold it


def measured_cuts(model: Model, sample: np.ndarray | Arrays, stages: int, kernels: str = "auto") -> list[int]:
    """Where at most `stages` stages begin so that the slowest is as fast as it can be, by some runs."""
    if stages == 1:
        return [0]
    return balanced_cuts(
        [row.nanoseconds for row in model.profile(sample, kernels=kernels, runs=COST_RUNS)], stages
    )


def balanced_cuts(costs: Sequence[int], stages: int) -> list[int]:
    """Where at most `stages` runs of neighbours begin of which the most costly one costs least.

    Args:
        costs: of each operator, 0 and up; at least one.

    Returns:
        0 and further indices, growing.
    """
    low, high = max(costs), sum(costs)
    while low < high:
        limit = (low + high) // 2
        if len(_cuts_within(costs, limit)) <= stages:
            high = limit
        else:
            low = limit + 1
    return _cuts_within(costs, low)


def _cuts_within(costs: Sequence[int], limit: int) -> list[int]:
    """Where stages begin that cost `limit` at most, each as long as possible; no single cost is above it."""
    cuts, spent = [0], 0
    for index, cost in enumerate(costs):
        if spent + cost > limit:
            cuts.append(index)
            spent = 0
        spent += cost
    return cuts


class Pipeline:
    """Runners in turn, each with a sample under way or none.

    Args:
        sample: one whose types all others have.
        cuts: where stages begin: 0 and further indices of operators, growing.

    Raises:
        InputError, DataError: cuts or sample do not fit the model.
    """

    def __init__(self, model: Model, sample: np.ndarray | Arrays, kernels: str, cuts: Sequence[int]) -> None:
        self._model = model
        self._formats, _ = model._one_batch(sample)
        count = SLOTS_PER_STAGE * len(cuts)
        self._runners = [model.bind(kernels=kernels, formats=self._formats) for _ in range(count)]
        self._native = _native.Pipeline(self._runners, list(cuts))
        self._pushed = self._popped = 0

    @property
    def inside(self) -> int:
        """Samples that are pushed and not popped."""
        return self._pushed - self._popped

    @property
    def is_full(self) -> bool:
        """Whether a sample must be popped before the next one is pushed."""
        return self.inside == len(self._runners)

    def close(self) -> None:
        """Ends the threads; samples under way are lost. Nothing else may be called after it."""
        del self._native
        self._runners.clear()

    def push(self, sample: np.ndarray | Arrays) -> None:
        """Gives a sample to the first stage; not where the pipeline is full.

        Raises:
            DataError: the sample is none of this stream.
        """
        formats, batch = self._model._one_batch(sample)
        if formats != self._formats:
            raise DataError(f"samples of a stream have the same types: {formats} after {self._formats}")
        runner = self._runners[self._pushed % len(self._runners)]
        for name, array in batch.items():
            runner.inputs[name][...] = array
        self._native.push()
        self._pushed += 1

    def pop(self) -> dict[str, np.ndarray]:
        """The outputs of the oldest sample inside, once they are computed; output name -> a copy."""
        self._native.pop()
        runner = self._runners[self._popped % len(self._runners)]
        self._popped += 1
        return {name: view.copy() for name, view in runner.outputs.items()}
