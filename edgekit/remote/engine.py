# SPDX-License-Identifier: Apache-2.0
"""A `.ekm` in the C runtime of a board."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgekit.engines import EdgekitEngine
from edgekit.remote.board import Board
from edgekit.serving import Client


class BoardEngine(EdgekitEngine):
    """Reads DATA as the engine of this machine, and runs it there, one inference at a time."""

    def __init__(self, path: Path, board: Board, client: Client, kernels: str = "auto", threads: int = 1) -> None:
        """Copies the model and prepares it.

        Raises:
            InputError: the board does not have the kernel set.
            BoardError: the model does not fit there, or the connection is lost.
        """
        super().__init__(path)
        bits = board.kernel_bits(kernels)
        client.load_file(self.program, board.put(path))
        self._client = client
        self._instance = client.prepare(bits, threads, repack=True)

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return self.model.run_by(self._execute, arrays)

    def _execute(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return self._client.run(self._instance, batch).arrays(self.program)
