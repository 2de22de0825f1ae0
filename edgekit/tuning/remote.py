# SPDX-License-Identifier: Apache-2.0
"""A runtime behind pipes, to be tuned for: a remote board, by its own clock."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from edgekit.bench.board import op_times
from edgekit.bench.peers import noise
from edgekit.bench.rounds import Times
from edgekit.bench.server import MIN_READINGS
from edgekit.format.reader import read
from edgekit.kernel_sets import ladder
from edgekit.program import Program
from edgekit.remote import Board
from edgekit.runtime.model import Model, OpTime
from edgekit.serving import Client, Prepared, Show
from edgekit.tuning.measure import Run

Load = Callable[[Client, Program], object]
"""Opens a model in the runtime, where there is one at a time."""


class ServedMachine:
    """A runtime that holds one model at a time: each is opened again when its turn comes.

    Args:
        sets: the kernel sets that may be used, slowest first; `bits` stand for them in requests.
        put: brings a `.ekm` file there once.
    """

    def __init__(self, client: Client, sets: Sequence[str], bits: int, put: Callable[[bytes], Load]) -> None:
        self.kernel_sets = list(sets)
        self._client, self._bits, self._put = client, bits, put
        self._open: _Served | None = None

    def open(self, model: bytes) -> Run:
        """As `Machine.open`."""
        return _Served(self, model, self._put(model)).run

    def whole(self, model: bytes, seconds: float) -> _Whole:
        """As `Machine.whole`."""
        return _Whole(_Served(self, model, self._put(model)), seconds)

    def ready(self, served: _Served) -> tuple[Client, Prepared]:
        """The client, with this model open and run once."""
        if self._open is not served:
            served.load(self._client, served.program)
            served.instance = self._client.prepare(self._bits, 1, repack=True)
            self._client.run(served.instance, served.sample)
            self._open = served
        assert served.instance is not None
        return self._client, served.instance


class _Served:
    """A model of the runtime's."""

    def __init__(self, machine: ServedMachine, model: bytes, load: Load) -> None:
        self.machine, self.load = machine, load
        self.program = read(model)
        self.sample = {port.name: noise(port.shape, port.dtype) for port in Model(model).inputs}
        self.instance: Prepared | None = None
        self._wanted = {(choice.op, choice.kernel) for choice in self.program.choices}

    def run(self) -> list[OpTime]:
        """The runtime does not tell which kernels were chosen; but a variant names none that it would take by itself."""
        client, instance = self.machine.ready(self)
        rows = op_times(instance, self.program, client.run(instance, self.sample, Show.TIMES))
        return [OpTime(row.op, row.opcode, row.kernel, row.nanoseconds, (row.op, row.kernel) in self._wanted) for row in rows]


class _Whole:
    """Runs of a model there, without a clock inside."""

    def __init__(self, served: _Served, seconds: float) -> None:
        self.times = Times()
        self._served = served
        client, instance = served.machine.ready(served)
        taken = float(client.time(instance, MIN_READINGS).min()) or 1.0
        self._runs = max(MIN_READINGS, int(seconds * 1e9 / taken))

    def round(self) -> None:
        client, instance = self._served.machine.ready(self._served)
        self.times.add(client.time(instance, self._runs + 1)[1:].tolist())  # the first brings code and weights back


def board_machine(board: Board, client: Client, kernels: str, folder: Path) -> ServedMachine:
    """A board and a client of its runtime; `folder` is here, for the files to be copied.

    Raises:
        InputError: the board does not have these kernels.
    """
    bits = board.kernel_bits(kernels)
    here = list(board.capabilities.kernel_sets)
    sets = here if kernels == "auto" else [name for name in here if name in ladder(kernels)]

    def put(model: bytes) -> Load:
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".ekm") as file:
            file.write(model)
            file.flush()
            path = board.put(Path(file.name))
        return lambda client, program: client.load_file(program, path)

    return ServedMachine(client, sets, bits, put)
