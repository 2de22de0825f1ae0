# SPDX-License-Identifier: Apache-2.0
"""A program here that serves through its standard input and output, maybe for another machine."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from edgekit.serving.client import Client
from edgekit.serving.pipes import GRACE_SECONDS, Failure, Pipes


@contextmanager
def serving(
    name: str, command: Sequence[str], failure: Failure = lambda code, printed: None, mark: bytes = b""
) -> Iterator[Client]:
    """A client of the program; it ends with the context.

    It has a session of its own, so that an interrupt from the terminal is this process's alone to handle.

    Args:
        name, failure: as for `Pipes`.
        mark: what the command prints before the program serves.
    """
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, bufsize=0, start_new_session=True
        )
        assert process.stdin is not None and process.stdout is not None
        with process.stdin, process.stdout:
            requests, replies = process.stdin.fileno(), process.stdout.fileno()
            os.set_blocking(requests, False)
            os.set_blocking(replies, False)
            pipes = Pipes(name, process, requests, replies, log, failure=failure)
            try:
                if mark:
                    pipes.skip_to(mark)
                client = Client(pipes)
                yield client
                client.end()
                with suppress(subprocess.TimeoutExpired):  # it has said all that it was asked
                    process.wait(GRACE_SECONDS)
            finally:
                pipes.close()
