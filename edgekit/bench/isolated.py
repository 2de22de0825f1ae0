# SPDX-License-Identifier: Apache-2.0
"""A peer in its process as a contender."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgekit.bench.rounds import Times
from edgekit.closing import Closing


class Server(Protocol):
    """What answers the requests of `server.py`."""

    def request(self, request: str, timeout: float = ..., **arguments: Any) -> dict[str, Any]: ...
    def close(self) -> None: ...


class Isolated(Closing):
    """Loads a model in a peer's process, and times its rounds there.

    Attributes:
        times: of the rounds so far.
        cores: per round, the processors that it kept busy.
        facts: what the server says of the start: version, load_us, first_run_us, engine_kb, memory_kb, library_bytes.
        group: runs between two readings of the clock.
    """

    def __init__(self, client: Server) -> None:
        self._client = client
        self.times = Times()
        self.cores: list[float] = []
        self.facts: dict[str, Any] = {}
        self.group = 1

    def start(self, path: Path, threads: int, inputs: Path) -> None:
        """Opens a model and runs it once on the arrays of an `.npz`.

        Raises:
            PeerError: the peer refuses.
        """
        self.facts = self._client.request("start", file=str(path), threads=threads, inputs=str(inputs))

    @property
    def load_us(self) -> float:
        return float(self.facts["load_us"])

    @property
    def first_run_us(self) -> float:
        return float(self.facts["first_run_us"])

    def output(self) -> np.ndarray:
        """The first output of the last run, float64, flat."""
        return np.array(self._client.request("output")["output"])

    def warm_up(self, seconds: float) -> None:
        """Runs for `seconds`, and makes rounds as long as that."""
        self.group = int(self._client.request("warm_up", seconds=seconds)["group"])

    def round(self) -> None:
        answer = self._client.request("round")
        self.times.add(answer["ns"])
        self.cores.append(float(answer["cores"]))

    def close(self) -> None:
        self._client.close()
