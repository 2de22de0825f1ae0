# SPDX-License-Identifier: Apache-2.0
"""Files that appear complete or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path

from edgekit.errors import InputError


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes `data` to `path` through a temporary file beside it.

    A device or a pipe is written directly. On failure an existing file keeps its content and no other
    file is left behind.

    Raises:
        InputError: the file cannot be written; the message names it and the reason.
    """
    target = Path(path)
    try:
        target = target.resolve()
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if target.exists() and not target.is_file():
            target.write_bytes(data)
        else:
            _replace(target, data)
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links before Python 3.13; a zero byte
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be written: {reason}; give another place") from error


def _replace(target: Path, data: bytes) -> None:
    temporary = target.with_name(f".edgekit-{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
