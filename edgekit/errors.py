# SPDX-License-Identifier: Apache-2.0
"""What edgekit raises.

    EdgekitError
    ├── InputError        something the user gave cannot be used: file, node, field, remedy
    │   ├── ModelError    the ONNX model
    │   ├── FormatError   the .ekm file
    │   ├── DataError     calibration, test or input data
    │   └── BoardError    a remote board
    └── CheckError        a check did not hold

The command line prints the message of an `InputError` as one line and exits with 2, that
of a `CheckError` with 1. Messages therefore name the file, node, tensor or field and say
what to do about it.
"""

from __future__ import annotations


class EdgekitError(Exception):
    """Base of all errors that edgekit raises on purpose."""


class InputError(EdgekitError):
    """Something the user gave cannot be used."""


class ModelError(InputError):
    """The ONNX model is damaged, hostile or has parts that edgekit does not support."""


class FormatError(InputError):
    """The .ekm file is damaged or needs a newer reader."""


class DataError(InputError):
    """Calibration, test or input data does not fit the model."""


class BoardError(InputError):
    """A remote board cannot be reached or used, or the connection to it was lost."""


class CheckError(EdgekitError):
    """A check that was asked for did not hold."""


def first_line(error: BaseException) -> str:
    """The first line of what another library's exception says, or its type where it says nothing; to be quoted
    in a message of one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
