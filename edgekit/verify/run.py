# SPDX-License-Identifier: Apache-2.0
"""Runs all backends in lockstep, so that one sample's tensors are all that is in memory."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import tee
from numbers import Integral
from pathlib import Path
from typing import Any

from edgekit.atomic import write_atomically
from edgekit.errors import InputError
from edgekit.format.reader import file_bytes, read
from edgekit.program import Program
from edgekit.remote.board import board_at
from edgekit.verify.backends import DEFAULT_THREADS, Backend, Subject, all_backends, board_backends
from edgekit.verify.compare import Comparison, Digests
from edgekit.verify.report import Report
from edgekit.verify.samples import Inputs, Samples

DEFAULT_SAMPLES = 100
"""Synthetic samples where none are given."""

Model = str | os.PathLike[str] | bytes | Program


def verify(
    model: Model,
    inputs: Inputs | None = None,
    *,
    backends: Sequence[str] | None = None,
    samples: int | None = None,
    seed: int = 0,
    threads: Sequence[int] = DEFAULT_THREADS,
    on: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Runs every backend that can run here and compares every 8-bit tensor and output, bit by bit.

    Args:
        model: a `.ekm` by path or as bytes; or a `Program`, which the C runtime cannot run.
        inputs: an array or a dict of them with a leading sample axis, or any iterable of one dict per
            inference. Without it, synthetic samples from `seed`.
        backends: names to run; those that cannot run here are then an error. None: all that can.
        samples: at most so many; 100 where `inputs` is None. A model with a fixed batch B takes B of them in
            one inference, the last of which is filled up.
        seed: of the synthetic samples.
        threads: beside one thread, the C runtime of this machine computes the outputs with each of these numbers.
        on: address of a board, `ssh://user@host`, which adds a backend for each of its kernel sets.
        progress: called with the number of finished samples after each.

    Raises:
        InputError: a backend's name is unknown, or it cannot run here; the model or data is unusable.
        BoardError: the board cannot be reached or used.
        CheckError: a backend failed to run the model at all.
    """
    if samples is not None and (not isinstance(samples, Integral) or samples < 1):
        raise InputError(f"samples must be an integer of 1 or more, not {samples!r}")
    if any(not isinstance(count, Integral) or count < 1 for count in threads):
        raise InputError(f"threads must be integers of 1 or more, not {list(threads)!r}")
    with _subject(model) as (subject, described), board_at(on) as board:
        names = [backends] if isinstance(backends, str) else backends
        remote = board_backends(subject, board) if board is not None else []
        chosen, skipped = _choose([*all_backends(subject, threads), *remote], names)
        limit = DEFAULT_SAMPLES if samples is None and inputs is None else samples
        stream = Samples(subject.program, inputs, limit, seed)
        return _compare(subject.program, chosen, skipped, stream, described, progress)


def _compare(
    program: Program,
    chosen: list[Backend],
    skipped: dict[str, str],
    stream: Samples,
    described: dict[str, Any],
    progress: Callable[[int], None] | None,
) -> Report:
    comparisons = [Comparison(b.name, program) for b in chosen]
    digests = Digests(program)
    inferences = 0
    runs = [b.run(copy) for b, copy in zip(chosen, tee(stream, len(chosen)), strict=True)]
    try:
        for observations in zip(*runs, strict=True):
            expected = observations[0].with_values()
            for comparison, seen in zip(comparisons, (expected, *observations[1:]), strict=True):
                comparison.add(inferences * stream.batch, seen, expected)
            digests.add(expected)
            inferences += 1
            if progress is not None:
                progress(stream.count(inferences))
    finally:  # what they have started ends now, not when somebody collects them
        for run in runs:
            if isinstance(run, Generator):
                run.close()
    if not inferences:
        raise InputError("there is no sample to compare: give at least one")
    return Report(
        samples=stream.count(inferences),
        expected=chosen[0].name,
        inputs=stream.describe(),
        backends=[c.finish() for c in comparisons],
        skipped=skipped,
        tensor_digests=digests.tensors,
        output_digests=digests.outputs,
        model=described,
    )


def _choose(backends: list[Backend], names: Sequence[str] | None) -> tuple[list[Backend], dict[str, str]]:
    """The backends to run, and why others do not."""
    known = {b.name: b for b in backends}
    if names is not None and not any(names):
        raise InputError(f"--backends: names none; there are {', '.join(known)}")
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise InputError(f"--backends {unknown[0] or repr('')}: there is no such backend; there are {', '.join(known)}")
    wanted = [b for b in backends if names is None or b.name in names]
    reasons = {b.name: reason for b in wanted if (reason := b.available()) is not None}
    if names is not None and reasons:
        name, reason = next(iter(reasons.items()))
        raise InputError(f"--backends {name}: {reason}")
    return [b for b in wanted if b.name not in reasons], reasons


@contextmanager
def _subject(model: Model) -> Iterator[tuple[Subject, dict[str, Any]]]:
    """The program, its file where it has one, and what a report says of them."""
    if isinstance(model, Program):
        yield Subject(model), {"name": model.name}
        return
    if isinstance(model, bytes):
        with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
            path = Path(folder) / "model.ekm"
            write_atomically(path, model)
            yield Subject(read(path), path), {"name": "<bytes>", **_file(model)}
        return
    path = Path(model)
    program = read(path)
    yield Subject(program, path), {"name": path.name, **_file(file_bytes(path))}


def _file(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
