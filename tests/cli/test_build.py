# SPDX-License-Identifier: Apache-2.0
"""`edgekit build` into folders that cannot take it, with compilers that fail."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgekit.building import scons
from edgekit.errors import EdgekitError

PRODUCT = ("include/edgekit/edgekit.h", "libedgekit.a", "pkgconfig/edgekit.pc")


def assert_refused(outcome, *fragments: str) -> None:
    assert outcome.code == 2, outcome
    assert outcome.out == ""
    assert outcome.err.startswith("edgekit: ")
    assert outcome.err.count("\n") == 1, outcome.err
    assert "internal error" not in outcome.err
    for fragment in fragments:
        assert fragment in outcome.err


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that makes files without content."""

    def build(*arguments: str) -> None:
        folder = next(Path(a.removeprefix("install_dir=")) for a in arguments if a.startswith("install_dir="))
        for name in PRODUCT:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()

    monkeypatch.setattr("edgekit.commands.build.scons", build)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_files_of_others_stay_and_are_not_listed(edgekit, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "libedgekit.a").write_text("of an older build")
    built = edgekit("build", "--target", "host", "-o", tmp_path, "--json").json
    assert built["artifacts"] == [str(tmp_path / name) for name in PRODUCT]
    assert files(tmp_path) == {*PRODUCT, "notes.txt"}
    assert (tmp_path / "libedgekit.a").read_text() == ""


@pytest.mark.parametrize("blocked", ["libedgekit.a/", "pkgconfig"])
def test_what_is_in_the_way_is_refused_before_anything_is_put(edgekit, tmp_path: Path, blocked: str) -> None:
    if blocked.endswith("/"):
        (tmp_path / blocked).mkdir()
    else:
        (tmp_path / blocked).write_text("mine")
    before = files(tmp_path)
    assert_refused(edgekit("build", "--target", "host", "-o", tmp_path), blocked.rstrip("/"), "another folder")
    assert files(tmp_path) == before


def test_impossible_folders(edgekit, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for output in ("file", "file/below", "loop", "loop/below", "x" * 300):
        assert_refused(edgekit("build", "--target", "host", "-o", tmp_path / output), "-o")
    assert {path.name for path in tmp_path.iterdir()} == {"file", "loop"}


def test_a_full_disk(edgekit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(28, os.strerror(28), str(target))

    monkeypatch.setattr(Path, "replace", full)
    assert_refused(edgekit("build", "--target", "host", "-o", tmp_path), "No space left", "edgekit.h")
    assert files(tmp_path) == set()


def test_one_line_of_a_failing_compiler(edgekit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd) -> None:
    monkeypatch.setattr(scons, "_run", lambda command: (2, "compile a.o\nIn file included from x.c:1:\ny.h:2:3: error: no\nscons: *** [a.o] Error 1\n"))
    monkeypatch.setattr("edgekit.commands.build.scons", scons.scons)
    assert_refused(edgekit("build", "--target", "host", "-o", tmp_path / "out"), "failed: y.h:2:3: error: no;", "EDGEKIT_TRACEBACK")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("EDGEKIT_TRACEBACK", "1")
    with pytest.raises(EdgekitError):
        scons.scons()
    assert "In file included" in capfd.readouterr().err


def test_first_error() -> None:
    assert scons.first_error("compile a.o\nscons: *** [a.o] sh: not found\n") == "scons: *** [a.o] sh: not found"
    assert scons.first_error("scons: *** [a.o] Error 1\ncc1: fatal error: no\n") == "cc1: fatal error: no"
    assert scons.first_error("killed\n") == "killed"
    assert scons.first_error("") == "it says nothing"
