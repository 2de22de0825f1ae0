# SPDX-License-Identifier: Apache-2.0
"""The table of ONNX operators that the importer knows, filled by `@handler`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx

from edgekit.importer.check import MAX_OPSET, MIN_OPSET

if TYPE_CHECKING:
    from edgekit.importer.context import Context, OnnxNode

Function = Callable[["Context", "OnnxNode"], None]


class Unsupported(Exception):
    """Raised by a handler for a node that it cannot express.

    Attributes:
        reason: what is unsupported, without the node's name.
        remedy: what the user can do about it.
    """

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason = reason
        self.remedy = remedy


@dataclass(frozen=True)
class Handler:
    """One operator of the ai.onnx domain.

    Attributes:
        since: the first opset in which the operator exists.
        becomes: what it turns into, for the support table.
        restrictions: what is refused, for the support table; empty where nothing is.
    """

    op: str
    since: int
    function: Function
    becomes: str
    restrictions: str = ""


def opset_range(handler: Handler) -> tuple[int, int]:
    """First and last opset in which edgekit takes the operator."""
    newest = onnx.defs.get_schema(handler.op, MAX_OPSET, "")
    last = newest.since_version - 1 if newest.deprecated else MAX_OPSET
    return max(handler.since, MIN_OPSET), last


HANDLERS: dict[str, Handler] = {}


def handler(
    op: str, since: int = 1, *, becomes: str, restrictions: str = ""
) -> Callable[[Function], Function]:
    """Registers a function as the handler of ONNX operator `op`; may be stacked."""

    def register(function: Function) -> Function:
        assert op not in HANDLERS, op
        HANDLERS[op] = Handler(op, since, function, becomes, restrictions)
        return function

    return register
