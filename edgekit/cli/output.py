# SPDX-License-Identifier: Apache-2.0
"""What commands print: JSON or tables on stdout, warnings and progress on stderr."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from edgekit import commands


def printable(text: str) -> str:
    """One line of `text` in which nothing commands the terminal: names in files are written by anybody."""
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def print_json(result: Any) -> None:
    """One JSON object; infinities and NaN, which JSON lacks, become null."""
    print(json.dumps(_plain(result), allow_nan=False))


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, np.ndarray)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> None:
    """A table behind a line with its title; numbers stand right. The width is that of its content where
    stdout is no terminal."""
    if title is not None:
        print(printable(title))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for i, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[i], (int, float, np.number)) or row[i] is None for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    _print(table)


def print_fields(fields: Sequence[tuple[str, Any]]) -> None:
    """Names and values, one a line."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in fields:
        table.add_row(name, Text(_cell(value)))
    _print(table)


def print_warnings(warnings: Sequence[str]) -> None:
    """One line each on stderr."""
    for warning in warnings:
        print_error(f"warning: {warning}")


def print_error(message: str) -> None:
    """One line on stderr; nowhere if it is closed, and least of all on stdout."""
    message = "; ".join(line.strip() for line in message.splitlines()).replace(":; ", ": ")
    if sys.stderr is not None:
        with suppress(OSError):
            print(f"edgekit: {printable(message)}", file=sys.stderr, flush=True)


@contextmanager
def working() -> Iterator[commands.Progress]:
    """Keeps stdout clean while the library works, and shows progress where stderr is a terminal."""
    with redirect_stdout(sys.stderr):
        if not sys.stderr.isatty():
            yield commands.no_progress
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            tasks: dict[str, Any] = {}

            def report(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    tasks[what] = progress.add_task(what, total=total or None)
                progress.update(tasks[what], completed=done, total=total or None)

            yield report


def _print(table: Table) -> None:
    """To a terminal in its width; elsewhere as plain lines, however long."""
    console = Console()
    if console.is_terminal:
        console.print(table)
        return
    wide = Console(width=400)
    with wide.capture() as captured:
        wide.print(table)
    for line in captured.get().splitlines():
        print(line.rstrip())


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (int, np.integer)):
        return f"{int(value):,}"
    if isinstance(value, (float, np.floating)):
        return f"{float(value):.4g}" if abs(value) < 1 else f"{float(value):,.2f}"
    if isinstance(value, (list, tuple)):
        return "x".join(map(str, value)) if all(isinstance(v, (int, np.integer)) for v in value) else printable(", ".join(map(str, value)))
    return printable(str(value))
