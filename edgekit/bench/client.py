# SPDX-License-Identifier: Apache-2.0
"""The other end of `server.py`: a peer in a process of its own, which stands still unless it is asked."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

from edgekit.closing import Closing
from edgekit.errors import InputError

SERVER = Path(__file__).with_name("server.py")
TIMEOUT = 3600.0
LOG_TAIL = 4000


class PeerError(InputError):
    """A peer cannot be installed, refuses a model, or ends."""


class Answering(Closing):
    """A process that answers requests, a JSON object a line.

    Between requests it is stopped (SIGSTOP), so that threads that spin while they wait for work disturb nobody.

    Args:
        name: for messages.
        command: of the process.
        environment: variables beside those of this process.
    """

    def __init__(self, name: str, command: Sequence[str], environment: dict[str, str] | None = None) -> None:
        self.name = name
        self._log = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - closed with the process
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log,
                env={**os.environ, **(environment or {})},
            )  # fmt: skip
        except OSError as error:
            self._log.close()
            raise PeerError(f"{name}: {error}") from error
        self._pending = b""

    def request(self, request: str, timeout: float = TIMEOUT, **arguments: Any) -> dict[str, Any]:
        """The answer to one request.

        Raises:
            PeerError: the engine raised something, the process ended, or `timeout` seconds passed.
        """
        assert self._process.stdin is not None
        try:
            self._signal(signal.SIGCONT)
            self._process.stdin.write(json.dumps({"request": request, **arguments}).encode() + b"\n")
            self._process.stdin.flush()
            line = self._read_line(timeout)
        except (BrokenPipeError, EOFError) as error:
            raise PeerError(f"{self.name}: its process ended: {self._last_words()}") from error
        self._signal(signal.SIGSTOP)
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerError(f"{self.name}: {answer['type']}: {answer['error']}")
        return answer

    def _read_line(self, timeout: float) -> bytes:
        assert self._process.stdout is not None
        end = monotonic() + timeout
        while b"\n" not in self._pending:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, end - monotonic()))
            if not ready:
                self._process.kill()
                raise PeerError(f"{self.name}: no answer within {timeout:g} seconds")
            chunk = os.read(self._process.stdout.fileno(), 1 << 16)
            if not chunk:
                raise EOFError
            self._pending += chunk
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def _last_words(self) -> str:
        """The last line that the process wrote, and how it ended."""
        code = self._process.wait()
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - LOG_TAIL))
        lines = [line for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
        how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        return f"{how}: {lines[-1].strip()}" if lines else how

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    def close(self) -> None:
        """Ends the process."""
        self._signal(signal.SIGCONT)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


class Client(Answering):
    """A server process for one adapter.

    Args:
        name: for messages.
        python: the interpreter of the peer's environment.
        adapter: the adapter's file.
        paths: folders of further modules.
        environment: variables beside those of this process.
    """

    def __init__(
        self,
        name: str,
        python: Path,
        adapter: Path,
        paths: Sequence[Path] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        super().__init__(name, [str(python), "-I", str(SERVER), str(adapter), *map(str, paths)], environment)
