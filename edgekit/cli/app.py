# SPDX-License-Identifier: Apache-2.0
"""Assembles the commands and turns every expected failure into one line and an exit code.

Exit codes: 0 done, 1 a check did not hold, 2 bad usage or bad input, 130 interrupted.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from typing import Annotated, Any

import typer

from edgekit._version import __version__
from edgekit.cli import INTERRUPTED
from edgekit.cli.output import print_error
from edgekit.errors import CheckError, EdgekitError

COMMANDS = (
    "convert", "prune", "run", "verify", "eval", "compare", "bench", "tune", "inspect", "export", "build", "firmware",
    "targets",
)  # fmt: skip

USAGE_ERROR: type[Any] = typer.BadParameter.__mro__[2]
"""click's ClickException, which newer versions of typer carry inside themselves."""


def application() -> typer.Typer:
    """The whole command line; `edgekit.cli.<command>` has a function `command` each."""
    app = typer.Typer(name="edgekit", add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
    app.callback(invoke_without_command=True)(_root)
    for name in COMMANDS:
        module = importlib.import_module(f"edgekit.cli.{name}")
        app.command(name, epilog=f"Example: {module.EXAMPLE}")(module.command)
    return app


def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Turns a trained ONNX model into a flat int8 file, runs it in C, and proves the result bit for bit."""
    if version:
        typer.echo(__version__)
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def invoke(arguments: list[str]) -> int:
    """Runs the command line and returns the exit code."""
    try:
        command = typer.main.get_command(application())
        code = command.main(args=arguments, prog_name="edgekit", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except CheckError as error:
        return _fail(1, str(error))
    except EdgekitError as error:
        return _fail(2, str(error))
    except USAGE_ERROR as error:
        return _fail(2, _usage(error))
    except SystemExit:  # typer's answer to a closed pipe, whose reader has seen enough
        return 0
    except BrokenPipeError:  # the same where only our own flush meets it
        _drop_stdout()
        return 0
    except OSError as error:
        _drop_stdout()
        # Files are written by functions that name them.
        where = error.filename or ("standard output" if error.errno == errno.ENOSPC else "")
        return _fail(2, f"{where}: {error.strerror or error}".removeprefix(": "))
    except MemoryError:
        return _fail(2, "not enough memory for this model and data; use a smaller model or batch")
    except (KeyboardInterrupt, typer.Abort):
        return _fail(INTERRUPTED, "interrupted")
    except Exception as error:
        if os.environ.get("EDGEKIT_TRACEBACK"):
            raise
        text = f"{type(error).__name__}: {error}"
        return _fail(2, f"internal error, please report it with the output under EDGEKIT_TRACEBACK=1: {text}")


def _drop_stdout() -> None:
    """Drops what stdout still holds if it takes no more, so that the interpreter exits quietly."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _usage(error: Any) -> str:
    """One line for a wrong option or argument."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "edgekit"
    message = error.format_message().rstrip(".")
    return f"{message}{'' if message.endswith('?') else ';'} see {path} --help"


def _fail(code: int, message: str) -> int:
    print_error(message)
    return code
