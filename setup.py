# SPDX-License-Identifier: Apache-2.0
"""Builds the C runtime with SCons and packs its sources, so that an installed wheel can cross-compile them.

Everything declarative is in pyproject.toml; how C is compiled is in SConstruct alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
SHARED_LIBRARIES = ("libedgekit.so", "libedgekit.dylib", "edgekit.dll")
SHARE = ("SConstruct", "csrc", "targets", "LICENSE")
"""What `edgekit build` needs, installed as edgekit/share/."""


class BuildRuntime(build_ext):
    """Calls SCons for `edgekit.runtime._native` and the shared library beside it."""

    def build_extension(self, ext: Extension) -> None:
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        work = Path(self.build_temp).resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "SCons", "-C", str(ROOT), "-Q", "python"]
        command += [f"install_dir={target.parent}", f"build_dir={work}", f"extension_name={target.name}"]
        command.append(f"-j{self.parallel or os.cpu_count() or 1}")
        subprocess.run(command, check=True)

    def copy_extensions_to_source(self) -> None:
        super().copy_extensions_to_source()
        for ext in self.extensions:
            package = ext.name.split(".")[:-1]
            for library in SHARED_LIBRARIES:
                built = Path(self.build_lib).joinpath(*package, library)
                if built.exists():
                    shutil.copy2(built, ROOT.joinpath(*package, library))


class BuildPython(build_py):
    """Adds edgekit/share/; an editable install reads the checkout itself."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            share = Path(self.build_lib) / "edgekit" / "share"
            shutil.rmtree(share, ignore_errors=True)
            for name in SHARE:
                self._copy(ROOT / name, share / name)

    def _copy(self, source: Path, target: Path) -> None:
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.o", "*.os", "*.so"))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


setup(
    ext_modules=[Extension("edgekit.runtime._native", sources=["csrc/python/module.cpp"])],
    cmdclass={"build_ext": BuildRuntime, "build_py": BuildPython},
)
