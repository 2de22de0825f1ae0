# SPDX-License-Identifier: Apache-2.0
"""Checks of paths that users give, before anything is read from or written to them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from edgekit.errors import InputError


def read_file(path: str | os.PathLike[str], limit: int, kind: str) -> bytes:
    """The content of a regular file; devices and pipes, which may never end, are refused.

    Args:
        limit: bytes that such a file can have at most.
        kind: what the file should be, for messages: `.ekm file`.

    Raises:
        InputError: it is missing, no file, cannot be read, or is too large.
    """
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            info = os.fstat(file.fileno())
            if not stat.S_ISREG(info.st_mode):
                raise InputError(f"{path}: not a file; give the path of a {kind}")
            if info.st_size > limit:
                raise InputError(f"{path}: has {info.st_size} bytes; a {kind} has at most {limit}")
            return file.read(limit)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
        raise InputError(f"{path}: {reason}; give the path of a {kind}") from error


def check_destination(path: str | os.PathLike[str], *sources: object) -> None:
    """Refuses early what could only fail, or would destroy an input, after minutes of work.

    Args:
        sources: what is read; those that are no paths do not matter.

    Raises:
        InputError: `path` is a folder, or in none or one that cannot be written, or it is one of `sources`,
            links considered.
    """
    target = Path(path)
    try:
        folder = target.resolve().parent
        if target.is_dir():
            raise InputError(f"{path}: is a folder; give the name of a file to write")
        if not folder.is_dir():
            raise InputError(f"{path}: the folder {folder} does not exist; create it first")
        if not os.access(folder, os.W_OK) and (target.is_file() or not target.exists()):
            raise InputError(f"{path}: cannot be written: the folder {folder} is read-only; give another place")
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links before Python 3.13; a zero byte
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be written: {reason}; give another place") from error
    if not target.is_file():
        return
    for source in sources:
        if isinstance(source, (str, os.PathLike)) and Path(source).exists() and target.samefile(source):
            raise InputError(f"{path}: would overwrite the input {os.fspath(source)}; give another name")


def unconverted(path: str | os.PathLike[str]) -> str:
    """The end of a message that a file is no .ekm: what to do where it is an ONNX model."""
    return f"; convert it first: edgekit convert {path}" if Path(path).suffix == ".onnx" else ""


def _open_at_once(path: str, flags: int) -> int:
    """Opens without waiting for the other end of a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
