# SPDX-License-Identifier: Apache-2.0
"""Verifies a file on DATA, as `edgekit verify` does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from edgekit.commands import Progress
from edgekit.data import DataSource, Preprocessing
from edgekit.engines import EdgekitEngine, Feed
from edgekit.files import check_destination
from edgekit.verify import Report, check_certificate, verify, write_certificate
from edgekit.verify.backends import DEFAULT_THREADS
from edgekit.verify.run import DEFAULT_SAMPLES


def verify_file(
    model: Path,
    data: DataSource | None = None,
    preprocessing: Preprocessing | None = None,
    *,
    backends: Sequence[str] | None = None,
    samples: int | None = None,
    seed: int = 0,
    threads: Sequence[int] = DEFAULT_THREADS,
    on: str | None = None,
    certificate: Path | None = None,
    write: Path | None = None,
    progress: Progress | None = None,
) -> Report:
    """Compares all backends bit by bit on DATA, or on synthetic samples where there is none.

    Args:
        threads: the C runtime computes the outputs with each of these numbers, too.
        on: address of a board, whose backends take part, too.
        certificate: hold the result to this certificate, whose samples are repeated.
        write: where to write a certificate, if all backends agree.

    Raises:
        CheckError: the file is not the certified one.
        InputError: the model, the data, a backend or a certificate cannot be used.
    """
    if write is not None:
        check_destination(write, model, data, certificate)
    inputs, total = None, samples or DEFAULT_SAMPLES
    if data is not None:
        feed = EdgekitEngine(model).open(data, preprocessing or Preprocessing(), samples)
        inputs, total = _arrays(feed), feed.samples

    def report(done: int) -> None:
        if progress:
            progress("verifying", done, total)

    if certificate is not None:
        result = check_certificate(certificate, model, inputs, backends=backends, threads=threads, on=on, progress=report)
    else:
        limit = samples if inputs is None else total
        result = verify(model, inputs, backends=backends, samples=limit, seed=seed, threads=threads, on=on, progress=report)
    if write is not None and result.ok:
        write_certificate(result, write)
    return result


def _arrays(feed: Feed) -> Iterator[Mapping[str, np.ndarray]]:
    for sample in feed:
        yield sample.arrays
