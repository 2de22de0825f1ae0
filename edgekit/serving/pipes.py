# SPDX-License-Identifier: Apache-2.0
"""Two pipes to a process that serves, which may end or hang at any time."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import IO

from edgekit.errors import CheckError, EdgekitError
from edgekit.serving import protocol

SILENCE_SECONDS = 300
"""After that long without a byte the other side is taken to hang; the largest layer takes an emulator seconds."""
GRACE_SECONDS = 10
"""How long a process may take to end once its pipes are closed."""
MAX_GREETING_BYTES = 2**16
"""What a process, or the shell that starts it, may print before it serves."""

Failure = Callable[[int, str], EdgekitError | None]


class Pipes:
    """Bytes to and from a process.

    Args:
        name: what messages call it.
        process: is watched, and killed by `close`.
        requests, replies: descriptors that do not block; they stay the caller's.
        log: what the process prints besides.
        reasons: exit codes of this process beyond those of the protocol, and what they mean.
        failure: asked first what an exit code and the log mean; None where it does not know.
    """

    def __init__(
        self,
        name: str,
        process: subprocess.Popen[bytes],
        requests: int,
        replies: int,
        log: IO[bytes],
        reasons: Mapping[int, str] | None = None,
        failure: Failure = lambda code, printed: None,
    ) -> None:
        self.name = name
        self.doing = ""
        """Goes in front of what is said of a failure."""
        self._process, self._requests, self._replies, self._log = process, requests, replies, log
        self._reasons = {**protocol.EXIT_REASONS, **(reasons or {})}
        self._failure = failure

    def read(self, count: int) -> bytes:
        """Exactly `count` bytes.

        Raises:
            CheckError: the process ends or hangs.
        """
        data = bytearray()
        while len(data) < count:
            self._wait(self._replies, write=False)
            if not (part := os.read(self._replies, count - len(data))):
                raise self._ended()
            data += part
        return bytes(data)

    def skip_to(self, mark: bytes) -> None:
        """Reads what comes up to and with `mark`, which stands near the beginning.

        Raises:
            CheckError: it does not, or the process ends or hangs.
        """
        end = b""
        for _ in range(MAX_GREETING_BYTES):
            end = (end + self.read(1))[-len(mark) :]
            if end == mark:
                return
        raise CheckError(f"{self.name}: prints without end before it serves")

    def write(self, data: bytes) -> None:
        """All of `data`.

        Raises:
            CheckError: the process ends or hangs.
        """
        view = memoryview(data)
        while view:
            self._wait(self._requests, write=True)
            try:
                view = view[os.write(self._requests, view[: select.PIPE_BUF]) :]
            except BrokenPipeError:
                raise self._ended() from None

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()

    def _wait(self, pipe: int, write: bool) -> None:
        """Until the pipe is ready. A named pipe that this side holds open says nothing when the process ends."""
        silent_since = time.monotonic()
        while True:
            ended = self._process.poll() is not None
            ready = select.select([] if write else [pipe], [pipe] if write else [], [], 0 if ended else 0.1)
            if ready[0] or (ready[1] and not ended):
                return
            if ended:
                raise self._ended()
            if time.monotonic() - silent_since > SILENCE_SECONDS:
                raise CheckError(f"{self.name}: {self.doing}no answer for {SILENCE_SECONDS} seconds")

    def _ended(self) -> EdgekitError:
        """From the exit code and what the process printed."""
        try:
            code = self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            return CheckError(f"{self.name}: {self.doing}closed its pipe")
        self._log.seek(0)
        printed = self._log.read().decode(errors="replace").strip()
        if (known := self._failure(code, printed)) is not None:
            return known
        reason = "; ".join([self._reasons.get(code) or exit_reason(code), *printed.splitlines()[:1]])
        return CheckError(f"{self.name}: {self.doing}ended early: {reason}")


def exit_reason(code: int) -> str:
    """What an exit code means: a shell gives 128 and the number of the signal that killed its command."""
    number = -code if code < 0 else code - 128
    try:
        return f"killed by {signal.Signals(number).name}"
    except ValueError:
        return f"exit code {code}"
