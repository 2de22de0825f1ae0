# SPDX-License-Identifier: Apache-2.0
"""Where the C sources are: edgekit/share/ in an installed wheel, the checkout itself otherwise."""

from __future__ import annotations

from pathlib import Path

from edgekit.errors import EdgekitError


def source_root() -> Path:
    """The folder that holds SConstruct, csrc/ and targets/."""
    package = Path(__file__).resolve().parent
    for root in (package / "share", package.parent):
        if (root / "SConstruct").is_file() and (root / "csrc").is_dir():
            return root
    raise EdgekitError("the C sources are missing from this installation: reinstall edgekit")
