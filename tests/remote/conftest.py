# SPDX-License-Identifier: Apache-2.0
"""A board: an sshd of the tests' own on loopback, behind which programs of AArch64 run under QEMU."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SSHD = Path("/usr/sbin/sshd")
ALIAS = "raspberrypi.local"

FORCED = """\
#!/bin/sh
# What every session runs: its command, among the programs of the board.
export TMPDIR={folder}/tmp PATH={folder}/bin:$PATH
if [ -f {folder}/fault ]; then . {folder}/fault; fi
exec sh -c "$SSH_ORIGINAL_COMMAND"
"""

CHMOD = """\
#!/bin/sh
# Makes the runtime a program that its emulator executes.
{chmod} "$1" "$2" || exit
case $2 in
*/edgekit-run)
    mv "$2" "$2.elf"
    printf '#!/bin/sh\\nexec $(cat {folder}/emulator) "$0.elf" "$@"\\n' >"$2"
    {chmod} "$1" "$2"
    ;;
esac
"""

UNAME = """\
#!/bin/sh
case "$1" in -m) echo {machine} ;; *) echo {system} ;; esac
"""


@dataclass(frozen=True)
class SshBoard:
    """Attributes:
    url: of the board.
    alias: its host in the configuration of ssh.
    folder: of its files; `tmp` is where it has temporary ones.
    """

    url: str
    alias: str
    folder: Path

    def fault(self, script: str) -> None:
        """From now on, every session begins with this."""
        (self.folder / "fault").write_text(script)

    def emulator(self, command: str) -> None:
        """What executes its programs."""
        (self.folder / "emulator").write_text(command)

    def uname(self, machine: str, system: str = "Linux") -> None:
        """What the board says of itself."""
        _script(self.folder / "bin" / "uname", UNAME.format(machine=machine, system=system))

    def left(self) -> list[str]:
        """What is in its folder for temporary files."""
        return sorted(path.name for path in (self.folder / "tmp").iterdir())


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshBoard]:
    """A server that accepts one key, which `ssh` of `client` has."""
    _require()
    folder = tmp_path_factory.mktemp("board")
    for name in ("bin", "tmp", "client"):
        (folder / name).mkdir()
    for key in ("host_key", "client/key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
    (folder / "authorized_keys").write_bytes((folder / "client" / "key.pub").read_bytes())
    _script(folder / "forced", FORCED.format(folder=folder))
    _script(folder / "bin" / "chmod", CHMOD.format(folder=folder, chmod=shutil.which("chmod")))
    port = _free_port()
    _write_server(folder, port)
    _write_client(folder, port)
    board = SshBoard(f"ssh://{getpass.getuser()}@127.0.0.1:{port}", ALIAS, folder)
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "sshd_config"], stderr=log)
        try:
            _wait(port, server, folder / "log")
            yield board
        finally:
            server.terminate()
            server.wait()


@pytest.fixture
def board(sshd: SshBoard, monkeypatch: pytest.MonkeyPatch) -> SshBoard:
    """The board as it should be, and `ssh` that knows it."""
    monkeypatch.setenv("PATH", f"{sshd.folder / 'client'}{os.pathsep}{os.environ['PATH']}")
    (sshd.folder / "fault").unlink(missing_ok=True)
    sshd.uname("aarch64")
    sshd.emulator("qemu-aarch64 -cpu cortex-a76")
    return sshd


def _script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def _require() -> None:
    for program, package in (
        (str(SSHD), "openssh-server"), ("ssh", "openssh-client"), ("ssh-keygen", "openssh-client"), ("qemu-aarch64", "qemu-user"),
    ):  # fmt: skip
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: apt install {package}")
    if os.geteuid() == 0:  # what the package's start-up makes
        Path("/run/sshd").mkdir(exist_ok=True)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _write_server(folder: Path, port: int) -> None:
    lines = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": folder / "host_key",
        "AuthorizedKeysFile": folder / "authorized_keys",
        "ForceCommand": folder / "forced",
        "PidFile": "none",
        "UsePAM": "no",
        "StrictModes": "no",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
    }
    (folder / "sshd_config").write_text("".join(f"{key} {value}\n" for key, value in lines.items()))


def _write_client(folder: Path, port: int) -> None:
    """A program `ssh` that reads a configuration of its own."""
    client = folder / "client"
    host_key = " ".join((folder / "host_key.pub").read_text().split()[:2])
    (client / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}\n")
    (client / "config").write_text(
        f"IdentityFile {client / 'key'}\nIdentitiesOnly yes\nIdentityAgent none\nGlobalKnownHostsFile none\n"
        f"UserKnownHostsFile {client / 'known_hosts'}\nStrictHostKeyChecking yes\n"
        f"Host {ALIAS}\nHostName 127.0.0.1\nPort {port}\nUser {getpass.getuser()}\nHostKeyAlias [127.0.0.1]:{port}\n"
    )
    _script(client / "ssh", f'#!/bin/sh\nexec {shutil.which("ssh")} -F {client / "config"} "$@"\n')


def _wait(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    """Until it accepts connections."""
    for _ in range(200):
        if server.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    pytest.fail(f"sshd does not start: {log.read_text()}")
