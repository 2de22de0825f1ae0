# SPDX-License-Identifier: Apache-2.0
"""edgekit targets"""

from __future__ import annotations

from edgekit.cli import options
from edgekit.cli.output import print_json, print_table

EXAMPLE = "edgekit targets"


def command(json: options.Json = False) -> None:
    """The known targets, and whether their compiler and emulator are here."""
    from edgekit.commands.build import targets

    known = targets()
    if json:
        print_json({"targets": known})
        return
    rows = [(t.name, t.arch, ", ".join(t.kernels), t.toolchain, t.emulator, t.description) for t in known]
    print_table(["target", "processor", "kernels", "compiler", "emulator", ""], rows)
