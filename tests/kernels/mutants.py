# SPDX-License-Identifier: Apache-2.0
"""Kernels with one passage replaced.

If a passage is gone from the source applying the mutant fails, so that the lists of mutants follow the code.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from kernels.harness import CSRC


@dataclass(frozen=True)
class Passage:
    """`old` becomes `new` in csrc/kernels/`file`; `name` says what goes wrong then."""

    name: str
    file: str
    old: str
    new: str

    def copied(self, folder: Path) -> Path:
        """csrc/kernels in a copy of the sources below `folder` that has the new passage."""
        shutil.copytree(CSRC, folder / "csrc", ignore=shutil.ignore_patterns("python", "tools", "serve"))
        root = folder / "csrc" / "kernels"
        text = (root / self.file).read_text()
        assert self.old in text, f"{self.file} no longer contains {self.old!r}"
        (root / self.file).write_text(text.replace(self.old, self.new))
        return root
