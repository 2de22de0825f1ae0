# SPDX-License-Identifier: Apache-2.0
"""What `edgekit inspect` shows: the file's own figures, and those that only the runtime knows."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgekit.errors import EdgekitError, FormatError, InputError
from edgekit.files import unconverted
from edgekit.format.reader import file_bytes
from edgekit.format.summary import summarize


def inspect(source: str | Path | bytes, target: str | None = None) -> dict[str, Any]:
    """The fields of `edgekit inspect --json`.

    `scratch_bytes` is one thread's scratch with the `scalar` kernels, `scratch_bytes_by_kernels` that of every
    kernel set of this processor; None and empty where the runtime is not built.

    Args:
        target: a microcontroller; `firmware` then holds what `edgekit firmware` would make, linked and measured.

    Raises:
        FormatError: the file cannot be read, or is damaged.
        InputError, CheckError: with a target, as `edgekit firmware`.
    """
    data = source if isinstance(source, bytes) else file_bytes(source)
    try:
        summary = summarize(data)
    except FormatError as error:
        if isinstance(source, bytes):
            raise
        raise FormatError(f"{source}: {error}{unconverted(source)}") from None
    scratch = scratch_bytes(data)
    result = {**summary, "scratch_bytes": scratch.get("scalar"), "scratch_bytes_by_kernels": scratch}
    if target is not None:
        from edgekit.commands.firmware import measure_firmware

        if isinstance(source, bytes):
            raise InputError("firmware is made of a file: give its path")
        result["firmware"] = asdict(measure_firmware(Path(source), target))
    return result


def scratch_bytes(data: bytes) -> dict[str, int]:
    """Kernel set -> scratch of one thread, for the sets of this processor; empty where the runtime is not built."""
    try:
        from edgekit.runtime import kernels
        from edgekit.runtime.model import Model
    except EdgekitError:
        return {}
    model = Model(data)
    return {name: model.scratch_needed(name) for name in kernels.available()}
