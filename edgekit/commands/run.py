# SPDX-License-Identifier: Apache-2.0
"""Samples through the C runtime, from DATA to arrays."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgekit.atomic import write_atomically
from edgekit.commands import Progress
from edgekit.data import DataSource, Preprocessing, real_part
from edgekit.engines import EdgekitEngine
from edgekit.errors import InputError
from edgekit.files import check_destination
from edgekit.runtime import kernels as kernel_sets


def run_data(
    model: Path,
    data: DataSource,
    preprocessing: Preprocessing | None = None,
    *,
    kernels: str = "auto",
    threads: int = 1,
    samples: int | None = None,
    output: Path | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, np.ndarray], str]:
    """Outputs by name, samples along the first dimension, and the kernel set that was used.

    Args:
        output: also writes them there, an `.npz`, complete or not at all.

    Raises:
        InputError: the model, the data or an option cannot be used, or `output` cannot be written.
    """
    if output is not None:
        if output.suffix != ".npz":
            raise InputError(f"{output}: outputs are written as .npz; name it so")
        check_destination(output, model, data)
    engine = EdgekitEngine(model, kernels, threads)
    feed = engine.open(data, preprocessing or Preprocessing(), samples)
    results: dict[str, list[np.ndarray]] = {port.name: [] for port in engine.model.outputs}
    done = 0
    for sample in feed:
        for name, array in engine.run(sample.arrays).items():
            results[name].append(real_part(array, sample.size, sample.count))
        done += sample.count
        if progress:
            progress("running", done, feed.samples)
    used = kernel_sets.best() if kernels == "auto" else kernels
    outputs = {name: np.concatenate(arrays) for name, arrays in results.items()}
    if output is not None:
        write_atomically(output, _npz(outputs))
    return outputs, used


def _npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """An `.npz` archive; `numpy.savez` takes names as keywords, of which it has some itself."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return stream.getvalue()
