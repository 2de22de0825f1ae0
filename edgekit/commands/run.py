# SPDX-License-Identifier: Apache-2.0
"""Samples through the C runtime, from DATA to arrays."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgekit.atomic import write_atomically
from edgekit.commands import Progress
from edgekit.data import DataSource, Preprocessing
from edgekit.engines import EdgekitEngine
from edgekit.errors import InputError
from edgekit.runtime import kernels as kernel_sets


def run_data(
    model: Path,
    data: DataSource,
    preprocessing: Preprocessing | None = None,
    *,
    kernels: str = "auto",
    threads: int = 1,
    samples: int | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, np.ndarray], str]:
    """Outputs by name, samples along the first dimension, and the kernel set that was used."""
    engine = EdgekitEngine(model, kernels, threads)
    feed = engine.open(data, preprocessing or Preprocessing(), samples)
    results: dict[str, list[np.ndarray]] = {port.name: [] for port in engine.model.outputs}
    done = 0
    for sample in feed:
        for name, array in engine.run(sample.arrays).items():
            results[name].append(array[: sample.count] if array.ndim else array.reshape(1))
        done += sample.count
        if progress:
            progress("running", done, feed.samples)
    used = kernel_sets.best() if kernels == "auto" else kernels
    return {name: np.concatenate(arrays) for name, arrays in results.items()}, used


def save_outputs(path: Path, outputs: Mapping[str, np.ndarray]) -> None:
    """Writes an `.npz`, complete or not at all.

    Raises:
        InputError: the suffix is another one, or the file cannot be written.
    """
    if path.suffix != ".npz":
        raise InputError(f"{path}: outputs are written as .npz; name it so")
    stream = io.BytesIO()
    np.savez(stream, **outputs)  # type: ignore[arg-type]  # its stub mistakes the names for allow_pickle
    write_atomically(path, stream.getvalue())
