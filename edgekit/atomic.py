# SPDX-License-Identifier: Apache-2.0
"""Files and folders that appear complete or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgekit.errors import InputError

_OF_THE_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EBUSY, errno.ENOTEMPTY)
"""Errors that another folder does not have."""


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


def check_new_folder(path: Path) -> None:
    """
    Raises:
        InputError: `path` is there and no empty folder, is another disk's, or cannot be made.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path}: exists and is no empty folder; remove it or give another name with -o")
    parent = path.absolute().parent
    if path.is_mount() or not parent.is_dir() or not os.access(parent, os.W_OK):
        raise InputError(f"{path}: cannot be made in {parent}; give another place with -o")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to be filled, which becomes `path` at the end; on failure nothing is left behind.

    Raises:
        InputError: as `check_new_folder`, or it cannot be written; the message names it and the reason.
    """
    check_new_folder(path)
    try:
        with tempfile.TemporaryDirectory(prefix=".edgekit-", dir=path.absolute().parent) as work:
            folder = Path(work) / "new"
            folder.mkdir()
            yield folder
            if path.exists():
                path.rmdir()
            folder.rename(path)
    except OSError as error:
        if error.errno not in _OF_THE_PLACE:
            raise
        raise InputError(f"{path}: cannot be written: {error.strerror}; give another place with -o") from error
