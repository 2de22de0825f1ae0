# SPDX-License-Identifier: Apache-2.0
"""edgekit targets"""

from __future__ import annotations

from edgekit.cli import options
from edgekit.cli.output import print_json, print_table

EXAMPLE = "edgekit targets"


def command(json: options.Json = False) -> None:
    """The known targets, whether their compiler and emulator are here, and what to install for the rest."""
    from edgekit.commands.build import targets

    known = targets()
    if json:
        print_json({"targets": known})
        return
    rows = [
        (t.name, t.arch, ", ".join(t.kernels), t.toolchain, t.emulator.split()[0] if t.emulator else None, t.description)
        for t in known
    ]
    print_table(["target", "processor", "kernels", "toolchain", "emulator", ""], rows)
    missing: dict[str, list[str]] = {}
    for t in known:
        for what in t.install:
            missing.setdefault(what, []).append(t.name)
    if missing:
        print_table(["to install", "for"], [(what, ", ".join(names)) for what, names in missing.items()])
