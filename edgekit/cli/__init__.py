# SPDX-License-Identifier: Apache-2.0
"""The command line: one file per command, each of which parses, calls the library and prints."""

from edgekit.cli.app import main

__all__ = ["main"]
