# SPDX-License-Identifier: Apache-2.0
"""Commands on another machine through the system's `ssh`, and a temporary folder there.

The first session stays open while a `Session` lives. It makes the folder, carries the later sessions, and waits for
the end of its input; however that comes, also by a signal that kills this process or by a lost connection, it then
removes the folder.
"""

from __future__ import annotations

import os
import re
import select
import shlex
import shutil
import subprocess
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from edgekit.closing import Closing
from edgekit.errors import BoardError, InputError
from edgekit.serving.pipes import MAX_GREETING_BYTES

CONNECT_SECONDS = 15
"""How long a connection may take, and each answer of the first session."""
ALIVE_SECONDS = 5
"""A connection that is silent is asked for a sign of life so often; after three without answer it is lost."""
UPLOAD_SECONDS, SLOWEST_BYTES_PER_SECOND = 60, 10_000
"""A file takes no longer than the first and its size by the second; a board without answer is found out before."""
GRACE_SECONDS = 10
"""How long the other side may take to remove the folder."""

LOST = 255
"""The exit code of ssh where it, not the command, failed."""
NOT_EXECUTABLE, NOT_FOUND = 126, 127
"""Exit codes of a shell."""

MARK = "edgekit-board:"
"""Begins the lines that are ours; start-up files of shells print others."""
_KEEPER = """
umask 077
folder=$(mktemp -d {parent}/edgekit-XXXXXXXX) || exit 1
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' HUP INT TERM PIPE
echo "{mark}$folder"
echo "{mark}$(uname -s) $(uname -m)"
cat >/dev/null
"""
_SOCKET_PATH_BYTES = 80
"""What of the 104 of a socket's address on some systems is left beside what ssh appends."""


@dataclass(frozen=True)
class Address:
    """ssh://[user@]host[:port][/folder]; `folder` holds temporary files, without it TMPDIR or /tmp there."""

    host: str
    user: str | None = None
    port: int | None = None
    folder: str | None = None

    @classmethod
    def parse(cls, url: str) -> Address:
        """The address that a URL names.

        Raises:
            InputError: it is none.
        """
        form = "give ssh://[user@]host[:port][/folder for temporary files]"
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise InputError(f"{url}: {error}; {form}") from error
        if parts.scheme != "ssh" or not host or parts.password is not None or parts.query or parts.fragment:
            raise InputError(f"{url}: not the address of a board; {form}")
        for word in (host, parts.username or "user"):
            if not re.fullmatch(r"[\w.:%~+][\w.:%~+-]*", word):  # ssh takes a word that begins with - for an option
                raise InputError(f"{url}: '{word}' is no name; {form}")
        if port == 0:
            raise InputError(f"{url}: 0 is no port; {form}")
        folder = unquote(parts.path)
        if not folder.isprintable():  # the board names its folder on one line, and no argument holds a zero
            raise InputError(f"{url}: the folder has control characters; {form}")
        return cls(host, parts.username, port, folder.rstrip("/") or None)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"ssh://{f'{self.user}@' if self.user else ''}{host}{f':{self.port}' if self.port else ''}"


class Session(Closing):
    """A connection; a context manager.

    Attributes:
        folder: on the other machine, for this connection alone.
        system, machine: what `uname -s` and `uname -m` say there.
    """

    def __init__(self, address: Address) -> None:
        """Connects.

        Raises:
            InputError: ssh is not installed.
            BoardError: the other machine cannot be reached, refuses the key, or has no place for files.
        """
        self.address = address
        if shutil.which("ssh") is None:
            raise InputError("ssh is not installed: apt install openssh-client")
        self._stack = ExitStack()
        try:
            self._connect()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends the connection; the folder is gone then."""
        self._stack.close()

    def command(self, script: str) -> list[str]:
        """The command that runs a shell script on the other machine."""
        return [*self._ssh("no"), self._destination, f"exec sh -c {shlex.quote(script)}"]

    def upload(self, source: Path, name: str, mode: str = "600") -> str:
        """Copies a file into the folder and returns where it is.

        Raises:
            BoardError: it does not fit there, or the connection is lost.
        """
        path = f"{self.folder}/{name}"
        place = shlex.quote(path)
        seconds = UPLOAD_SECONDS + source.stat().st_size / SLOWEST_BYTES_PER_SECOND
        try:
            with source.open("rb") as content:
                done = subprocess.run(
                    self.command(f"cat >{place} && chmod {mode} {place}"), stdin=content, stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE, text=True, errors="replace", check=False, start_new_session=True, timeout=seconds,
                )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise BoardError(f"{self.address}: cannot write {path} in {seconds:.0f} seconds; {self._elsewhere}") from None
        if done.returncode == LOST:
            raise self.failed(done.stderr)
        if done.returncode:
            raise BoardError(f"{self.address}: cannot write {path}: {_reason(done.stderr)}; {self._elsewhere}")
        return path

    def output(self, script: str) -> str:
        """The beginning of what a shell script prints on the other machine.

        Raises:
            BoardError: it takes too long, or the connection is lost.
        """
        with tempfile.TemporaryFile() as printed:
            try:
                done = subprocess.run(
                    self.command(script), stdin=subprocess.DEVNULL, stdout=printed, stderr=subprocess.DEVNULL,
                    check=False, start_new_session=True, timeout=2 * CONNECT_SECONDS,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                raise BoardError(f"{self.address}: no answer for {2 * CONNECT_SECONDS} seconds") from None
            if done.returncode == LOST:
                raise self.failed("")
            printed.seek(0)
            return printed.read(MAX_GREETING_BYTES).decode(errors="replace")

    def failed(self, printed: str) -> BoardError:
        """What it means that ssh itself ended with `LOST`."""
        reason = _reason(printed)
        if "Permission denied" in reason:
            remedy = f"install a key with `ssh-copy-id {self._login}`, or load it into an agent"
            return BoardError(f"{self.address}: refuses the key ({reason}); {remedy}")
        if "Host key verification failed" in reason:
            return BoardError(f"{self.address}: its host key is not the known one, or none is; try `ssh {self._login}`")
        if re.search(r"resolve|refused|timed out|No route|unreachable", reason):
            return BoardError(f"{self.address}: cannot be reached: {reason}")
        return BoardError(f"{self.address}: the connection was lost{f': {reason}' if reason else ''}")

    def not_executable(self, path: str, printed: str) -> BoardError:
        """What it means that a shell could not execute a program of ours."""
        reason = _reason(printed).rpartition(": ")[2]
        return BoardError(f"{self.address}: cannot execute {path}: {reason}; {self._elsewhere}")

    def _connect(self) -> None:
        folder = self._stack.enter_context(_temporary_folder())
        self._socket = Path(folder) / "ssh"
        log = self._stack.enter_context((Path(folder) / "log").open("w+b"))
        parent = shlex.quote(self.address.folder) if self.address.folder else '"${TMPDIR:-/tmp}"'
        script = _KEEPER.format(parent=parent, mark=MARK)
        self._keeper = subprocess.Popen(
            [*self._ssh("yes"), self._destination, f"exec sh -c {shlex.quote(script)}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, bufsize=0, start_new_session=True,
        )  # fmt: skip
        self._stack.callback(self._end)
        answers = self._answers(2)
        if answers is None:
            log.seek(0)
            printed = log.read().decode(errors="replace")
            code = self._keeper.wait()
            if code == LOST:
                raise self.failed(printed)
            raise BoardError(f"{self.address}: cannot make a temporary folder: {_reason(printed)}; {self._elsewhere}")
        self.folder, uname = answers
        self.system, _, self.machine = uname.partition(" ")

    def _answers(self, count: int) -> list[str] | None:
        """The first lines of ours; None if the session ends before.

        Raises:
            BoardError: they do not come.
        """
        assert self._keeper.stdout is not None
        pipe, printed = self._keeper.stdout.fileno(), b""
        end = time.monotonic() + 2 * CONNECT_SECONDS
        while True:
            lines = printed.decode(errors="replace").split("\n")[:-1]
            ours = [line.removeprefix(MARK) for line in lines if line.startswith(MARK)]
            if len(ours) >= count:
                return ours[:count]
            if time.monotonic() > end:
                raise BoardError(f"{self.address}: no answer for {2 * CONNECT_SECONDS} seconds")
            if len(printed) > MAX_GREETING_BYTES:
                raise BoardError(f"{self.address}: prints without end where it should answer")
            if not select.select([pipe], [], [], 0.1)[0]:
                continue
            if not (part := os.read(pipe, 4096)):
                return None
            printed += part

    def _end(self) -> None:
        """Closes the input of the first session, which ends it."""
        assert self._keeper.stdin is not None and self._keeper.stdout is not None
        self._keeper.stdin.close()
        try:
            self._keeper.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._keeper.terminate()
            self._keeper.wait()
        finally:
            self._keeper.stdout.close()

    def _ssh(self, master: str) -> list[str]:
        """ssh without anything of the user's configuration that a program cannot use; `master` carries the others."""
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": CONNECT_SECONDS,
            "ServerAliveInterval": ALIVE_SECONDS,
            "ServerAliveCountMax": 3,
            "ControlMaster": master,
            "ControlPath": self._socket,
            "ControlPersist": "no",
            "ClearAllForwardings": "yes",
            "ForwardX11": "no",
            "PermitLocalCommand": "no",
            "RemoteCommand": "none",
            "RequestTTY": "no",
        }
        port = ["-p", str(self.address.port)] if self.address.port else []
        return ["ssh", *(f"-o{name}={value}" for name, value in options.items()), *port]

    @property
    def _destination(self) -> str:
        return f"{self.address.user}@{self.address.host}" if self.address.user else self.address.host

    @property
    def _login(self) -> str:
        """What follows `ssh` on a command line."""
        return f"-p {self.address.port} {self._destination}" if self.address.port else self._destination

    @property
    def _elsewhere(self) -> str:
        return f"name another folder of the board: {self.address}/home/..."


def _temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """One with a path that fits a socket's address."""
    short = len(tempfile.gettempdir().encode()) + 24 <= _SOCKET_PATH_BYTES
    return tempfile.TemporaryDirectory(prefix="edgekit-", dir=None if short else "/tmp")


def _reason(printed: str) -> str:
    """The last line that says something; the ones before are warnings."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    return lines[-1] if lines else ""
