# SPDX-License-Identifier: Apache-2.0
"""A board: what it is, the runtime that was built for it, and models that run there."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from edgekit.building.cache import cached_build
from edgekit.building.targets import Target, TargetError, read_targets
from edgekit.closing import Closing
from edgekit.errors import BoardError, EdgekitError, InputError
from edgekit.remote.ssh import LOST, MARK, NOT_EXECUTABLE, NOT_FOUND, Address, Session
from edgekit.serving import Capabilities, Client
from edgekit.serving.process import serving
from edgekit.sources import source_root


class Board(Closing):
    """A machine with Linux that is reached through ssh; a context manager.

    Attributes:
        url: its address.
        name: `ssh-<host>`.
        target: what the runtime is built for.
        capabilities: what the runtime finds there.
    """

    def __init__(self, url: str) -> None:
        """Connects, builds the runtime if need be, and copies it there.

        Raises:
            InputError: the address is none; or no runtime can be built here for such a machine.
            BoardError: the board cannot be reached or used; the message says why.
        """
        address = Address.parse(url)
        self.url, self.name = url, f"ssh-{address.host}"
        self._session = Session(address)
        self._models: dict[str, str] = {}
        try:
            self.target = _target(address, self._session.system, self._session.machine)
            self._program = self._session.upload(_runtime(address, self.target), "edgekit-run", mode="700")
            with self.serve() as client:
                self.capabilities: Capabilities = client.hello()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends the connection; nothing is left on the board."""
        self._session.close()

    def put(self, model: Path) -> str:
        """The path of a model on the board; it is copied once.

        Raises:
            BoardError: it does not fit there, or the connection is lost.
        """
        digest = hashlib.sha256(model.read_bytes()).hexdigest()[:16]
        if digest not in self._models:
            self._models[digest] = self._session.upload(model, f"{digest}.ekm")
        return self._models[digest]

    @property
    def cpuinfo(self) -> str:
        """/proc/cpuinfo there; empty where there is none.

        Raises:
            BoardError: the connection is lost.
        """
        return self._session.output("cat /proc/cpuinfo")

    @property
    def best(self) -> str:
        """The fastest kernel set there."""
        return list(self.capabilities.kernel_sets)[-1]

    def kernel_bits(self, kernels: str) -> int:
        """What stands for a kernel set, or `auto`, in requests.

        Raises:
            InputError: the board does not have it.
        """
        bits = 0 if kernels == "auto" else self.capabilities.bits(kernels)
        if bits is None:
            raise InputError(f"kernel set '{kernels}' is not on {self.url}: use auto, {', '.join(self.capabilities.kernel_sets)}")
        return bits

    def serve(self, name: str | None = None) -> AbstractContextManager[Client]:
        """A runtime on the board.

        Args:
            name: what messages call it; by default the board's.
        """
        # Not as the shell itself: if it dies by a signal, the shell gives a code, which ssh would not.
        command = self._session.command(f"echo {MARK}; {shlex.quote(self._program)} --serve; exit $?")
        return serving(name or self.name, command, self._failure, f"{MARK}\n".encode())

    def _failure(self, code: int, printed: str) -> EdgekitError | None:
        if code == LOST:
            return self._session.failed(printed)
        if code in (NOT_EXECUTABLE, NOT_FOUND):
            return self._session.not_executable(self._program, printed)
        return None


@contextmanager
def board_at(url: str | None) -> Iterator[Board | None]:
    """The board at an address; None where there is no address."""
    if url is None:
        yield None
        return
    with Board(url) as board:
        yield board


def _target(address: Address, system: str, machine: str) -> Target:
    """The target whose programs such a machine executes.

    Raises:
        BoardError: there is none.
    """
    known = {name: target for target in read_targets(source_root()) for name in target.machines}
    if system != "Linux":
        raise BoardError(f"{address}: runs {system}; boards with Linux can be used")
    if machine not in known:
        raise BoardError(f"{address}: is of an unknown architecture, {machine}; known are {', '.join(sorted(known))}")
    return known[machine]


def _runtime(address: Address, target: Target) -> Path:
    """edgekit-run for a target.

    Raises:
        InputError: no compiler for it is here.
    """
    try:
        return cached_build(target, target.toolchain(), "runner") / "edgekit-run"
    except TargetError as error:
        raise InputError(f"{address}: {error}") from error
