# SPDX-License-Identifier: Apache-2.0
"""Context managers that are closed at the end, whatever happened."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TypeVar

_Opened = TypeVar("_Opened", bound="Closing")


class Closing(ABC):
    """Base class of what has a `close`."""

    @abstractmethod
    def close(self) -> None:
        """Gives back what it holds."""

    def __enter__(self: _Opened) -> _Opened:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
