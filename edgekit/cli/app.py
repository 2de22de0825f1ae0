# SPDX-License-Identifier: Apache-2.0
"""Assembles the commands and turns every expected failure into one line and an exit code.

Exit codes: 0 done, 1 a check did not hold, 2 bad usage or bad input.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer

from edgekit._version import __version__
from edgekit.errors import CheckError, EdgekitError

COMMANDS = (
    "convert", "prune", "run", "verify", "eval", "compare", "bench", "inspect", "export", "build", "targets",
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


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and exits."""
    sys.exit(invoke(list(sys.argv[1:] if arguments is None else arguments)))


def invoke(arguments: list[str]) -> int:
    """Runs the command line and returns the exit code."""
    command = typer.main.get_command(application())
    try:
        code = command.main(args=arguments, prog_name="edgekit", standalone_mode=False)
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
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(2, f"{where}{error.strerror or error}")
    except (KeyboardInterrupt, typer.Abort):
        return _fail(130, "interrupted")
    except Exception as error:
        if os.environ.get("EDGEKIT_TRACEBACK"):
            raise
        text = f"{type(error).__name__}: {error}"
        return _fail(2, f"internal error, please report it with the output under EDGEKIT_TRACEBACK=1: {text}")


def _usage(error: Any) -> str:
    """One line for a wrong option or argument."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "edgekit"
    return f"{error.format_message().rstrip('.')}; see {path} --help"


def _fail(code: int, message: str) -> int:
    print("edgekit: " + " ".join(message.split()), file=sys.stderr)
    return code
