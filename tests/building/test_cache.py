# SPDX-License-Identifier: Apache-2.0
"""Builds that are kept."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgekit.building import cache
from edgekit.building.targets import read_target
from edgekit.errors import EdgekitError, InputError


@pytest.fixture
def builds(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """An empty cache and builds that only note how they were asked for."""
    asked: list[tuple[str, ...]] = []

    def scons(*arguments: str) -> None:
        asked.append(arguments)
        product = next(a.removeprefix("install_dir=") for a in arguments if a.startswith("install_dir="))
        assert not any(Path(product).iterdir())
        (Path(product) / "product").write_text(arguments[0])

    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "scons", scons)
    return asked


def test_a_build_is_made_once(root: Path, tmp_path: Path, builds: list[tuple[str, ...]]) -> None:
    target = read_target(root, "host")
    source = tmp_path / "source.c"
    source.write_text("1")
    first = cache.cached_build(target, target.toolchain(), "runner", [source])
    assert (first / "product").read_text() == "runner"
    assert cache.cached_build(target, target.toolchain(), "runner", [source]) == first
    assert len(builds) == 1 and {"runner", "target=host", f"toolchain={target.toolchain().name}"} <= set(builds[0])

    source.write_text("2")
    assert cache.cached_build(target, target.toolchain(), "runner", [source]) != first
    assert cache.cached_build(target, target.toolchain(), "install", [source]).name.startswith("install-host-")
    assert len(builds) == 3
    assert sorted(path.name for path in first.parent.iterdir() if path.name.startswith(".")) == [".lock"]


def test_a_failed_build_leaves_nothing(root: Path, tmp_path: Path, builds: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: str) -> None:
        raise EdgekitError("no")

    monkeypatch.setattr(cache, "scons", fails)
    target = read_target(root, "host")
    with pytest.raises(EdgekitError):
        cache.cached_build(target, target.toolchain(), "runner")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_the_oldest_builds_go(root: Path, tmp_path: Path, builds: list[tuple[str, ...]]) -> None:
    target = read_target(root, "host")
    source = tmp_path / "source.c"
    made = []
    for i in range(cache.KEPT + 2):
        source.write_text(str(i))
        made.append(cache.cached_build(target, target.toolchain(), "runner", [source]))
        os.utime(made[-1], (1000 + i, 1000 + i))
    source.write_text("last")
    cache.cached_build(target, target.toolchain(), "runner", [source])
    assert [path.exists() for path in made] == [False] * 3 + [True] * (cache.KEPT - 1)


def test_where_it_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "given"))
    assert cache.cache_folder() == tmp_path / "given"
    monkeypatch.delenv("EDGEKIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / "edgekit"


@pytest.mark.parametrize("damage", ["cut", "gone", "another", "no digests", "file", "dangling"])
def test_a_damaged_build_is_made_again(root: Path, builds: list[tuple[str, ...]], damage: str) -> None:
    target = read_target(root, "host")
    folder = cache.cached_build(target, target.toolchain(), "runner")
    if damage == "cut":
        (folder / "product").write_text("run")
    elif damage == "gone":
        (folder / "product").unlink()
    elif damage == "another":
        (folder / "more").touch()
    elif damage == "no digests":
        (folder / cache.DIGESTS).unlink()
    else:
        shutil.rmtree(folder)
        folder.touch() if damage == "file" else folder.symlink_to(folder.parent / "nowhere")
    assert cache.cached_build(target, target.toolchain(), "runner") == folder
    assert {path.name for path in folder.iterdir()} == {"product", cache.DIGESTS}
    assert (folder / "product").read_text() == "runner"
    assert len(builds) == 2


def test_what_killed_builds_left_goes(root: Path, tmp_path: Path, builds: list[tuple[str, ...]]) -> None:
    (tmp_path / "cache" / ".build-killed" / "build").mkdir(parents=True)
    target = read_target(root, "host")
    folder = cache.cached_build(target, target.toolchain(), "runner")
    assert {path.name for path in folder.parent.iterdir()} == {".lock", folder.name}


def test_a_cache_that_cannot_be_written(root: Path, tmp_path: Path, builds: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    target = read_target(root, "host")
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("file", "file/below", "loop", "x" * 300):
        monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / name))
        with pytest.raises(InputError, match="EDGEKIT_CACHE"):
            cache.cached_build(target, target.toolchain(), "runner")
    assert builds == []


def test_one_of_several_makes_the_build(root: Path, builds: list[tuple[str, ...]]) -> None:
    target = read_target(root, "host")
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: cache.cached_build(target, target.toolchain(), "runner"), range(4)))
    assert len(set(folders)) == len(builds) == 1
