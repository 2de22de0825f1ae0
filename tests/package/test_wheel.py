# SPDX-License-Identifier: Apache-2.0
"""sdist -> wheel -> installed package: it runs a model and can build the runtime again, away from the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import setuptools

import edgekit


@pytest.fixture(scope="module")
def sdist(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("build")
    if int(setuptools.__version__.split(".")[0]) < 77:
        pytest.skip("the package is built with setuptools 77 or newer")
    folder = tmp_path_factory.mktemp("sdist")
    run("-m", "build", "--sdist", "--no-isolation", "--outdir", folder, root)
    (archive,) = folder.glob("*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made from the sdist alone."""
    folder = tmp_path_factory.mktemp("wheel")
    run("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, sdist)
    (archive,) = folder.glob("*.whl")
    return archive


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which the wheel is what `import edgekit` finds."""
    folder = tmp_path_factory.mktemp("installed")
    run("-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, wheel)
    return {**os.environ, "PYTHONPATH": str(folder)}


def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    result = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    assert result.returncode == 0, result.stdout + result.stderr
    return result


@pytest.mark.slow
def test_sdist_has_all_sources(root: Path, sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    listed = subprocess.run(["git", "ls-files", "csrc", "targets", "edgekit", "SConstruct", "LICENSE"], cwd=root, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    assert set(listed.stdout.split()) - names == set()
    assert not any(name.endswith((".so", ".o", ".pyc")) for name in names)


@pytest.mark.slow
def test_wheel_has_the_runtime_and_its_sources(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(f"edgekit-{edgekit.__version__}.dist-info/METADATA").decode()
    assert "License-Expression: Apache-2.0" in metadata
    assert "Requires-Python: >=3.10" in metadata
    wanted = ["py.typed", "runtime/libedgekit.so", "share/SConstruct", "share/csrc/include/edgekit/edgekit.h", "share/targets/host.toml"]
    assert {f"edgekit/{name}" for name in wanted} <= names
    assert any(name.startswith("edgekit/runtime/_native.") and name.endswith(".so") for name in names)
    assert not any(name.startswith(("tests/", "edgekit/share/csrc/tests")) or name.endswith(".o") for name in names)


@pytest.mark.slow
def test_the_installed_package_works_away_from_the_checkout(installed: dict[str, str], digits: Path, tmp_path: Path) -> None:
    command = ["-m", "edgekit", "convert", digits / "digits.onnx", "-o", "digits.ekm", "--calibration", digits / "digits_calib.npz"]
    run(*command, "--input-layout", "nhwc", "--input-std", "16", cwd=tmp_path, env=installed)
    run("-m", "edgekit", "verify", "digits.ekm", "--samples", "10", cwd=tmp_path, env=installed)
    run("-m", "edgekit", "build", "--target", "host", "-o", "runtime", cwd=tmp_path, env=installed)
    assert (tmp_path / "runtime" / "libedgekit.a").is_file()
    found = run("-c", "import edgekit; print(edgekit.__file__)", cwd=tmp_path, env=installed).stdout
    assert found.startswith(installed["PYTHONPATH"])
