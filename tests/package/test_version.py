# SPDX-License-Identifier: Apache-2.0
"""One version everywhere, and every source says its licence."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest

import edgekit


def test_header_and_package_agree(root: Path) -> None:
    header = (root / "csrc" / "include" / "edgekit" / "edgekit.h").read_text()
    numbers = re.findall(r"#define EK_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", header)
    assert ".".join(numbers) == edgekit.__version__


def test_the_built_module_is_of_this_version() -> None:
    from edgekit.runtime import _native

    assert ".".join(map(str, _native.VERSION)) == edgekit.__version__


def test_metadata_agrees() -> None:
    try:
        version = importlib.metadata.version("edgekit")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("edgekit runs from a checkout that is not installed")
    assert version == edgekit.__version__


def test_changelog_has_the_version(root: Path) -> None:
    assert f"\n## {edgekit.__version__} " in (root / "CHANGELOG.md").read_text()


def test_every_source_names_its_licence(root: Path) -> None:
    suffixes = {".py", ".c", ".h", ".cpp", ".def", ".toml"}
    folders = ("edgekit", "csrc", "targets", "tests", "firmware_examples", "benchmarks")
    sources = [p for folder in folders for p in (root / folder).rglob("*") if p.suffix in suffixes and p.is_file()]
    sources = [p for p in sources if not {"share", "build", "__pycache__"} & set(p.relative_to(root).parts)]
    assert len(sources) > 150
    texts = {str(p.relative_to(root)): p.read_text() for p in sources}
    assert [name for name, text in texts.items() if text and "SPDX-License-Identifier: Apache-2.0" not in text[:400]] == []
