# SPDX-License-Identifier: Apache-2.0
"""Folders that appear complete or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from edgekit.atomic import new_folder
from edgekit.errors import InputError


def test_a_new_folder_appears_whole(tmp_path: Path) -> None:
    with new_folder(tmp_path / "made") as folder:
        (folder / "file").write_text("text")
        assert not (tmp_path / "made").exists()
    assert (tmp_path / "made" / "file").read_text() == "text"
    assert [p.name for p in tmp_path.iterdir()] == ["made"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_folder_that_cannot_be_filled_does_not_appear(tmp_path: Path, code: int) -> None:
    with pytest.raises(InputError, match=r"made: cannot be written: .*; give another place"), new_folder(tmp_path / "made"):
        raise OSError(code, os.strerror(code))
    assert not list(tmp_path.iterdir())


def test_errors_of_other_files_keep_their_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="other"), new_folder(tmp_path / "made"):
        (tmp_path / "other").read_text()
    assert not list(tmp_path.iterdir())


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="exists and is no empty folder"), new_folder(tmp_path):
        raise AssertionError
    with pytest.raises(InputError, match="cannot be made in"), new_folder(tmp_path / "missing" / "made"):
        raise AssertionError
