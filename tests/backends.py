# SPDX-License-Identifier: Apache-2.0
"""Which backends of `verify` a test takes."""

from __future__ import annotations

from pathlib import Path

from edgekit.format.reader import read
from edgekit.verify.backends import Subject, all_backends


def not_emulated(path: Path) -> list[str]:
    """All of this machine."""
    backends = all_backends(Subject(read(path), path))
    return [b.name for b in backends if not b.name.startswith("qemu-") and b.available() is None]


def without_boards(path: Path) -> list[str]:
    """All that can run here but the emulated microcontrollers, which have tests of their own."""
    backends = all_backends(Subject(read(path), path))
    return [b.name for b in backends if not b.name.startswith("qemu-cortex-m") and b.available() is None]


def boards(path: Path) -> list[str]:
    """The reference and every emulated microcontroller that can run the model."""
    backends = all_backends(Subject(read(path), path))
    return ["reference", *(b.name for b in backends if b.name.startswith("qemu-cortex-m") and b.available() is None)]
