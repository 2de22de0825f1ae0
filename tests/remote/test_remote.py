# SPDX-License-Identifier: Apache-2.0
"""The commands with --on, against an sshd on loopback whose board is an emulated AArch64."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

from edgekit.cli.app import invoke
from edgekit.errors import BoardError, CheckError, InputError
from edgekit.format.reader import read
from edgekit.format.writer import write
from edgekit.kernel_sets import listed_kernels
from edgekit.remote import Board, ssh
from edgekit.remote.ssh import Address
from edgekit.serving import Show
from edgekit.tuning import Table
from edgekit.verify import verify
from tests.cli.test_signals import as_from_a_terminal
from tests.remote.conftest import SshBoard

NETWORK = Path(__file__).resolve().parents[1] / "fuzz" / "corpus" / "valid" / "network.ekm"
SETS = ["scalar", "neon", "neon_dotprod"]
"""Of the emulated Cortex-A76."""


def edgekit(*arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = invoke([str(a) for a in arguments])
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def model(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that takes raw images, too."""
    from edgekit import convert

    path = tmp_path_factory.mktemp("model") / "digits.ekm"
    convert(digits / "digits.onnx", path, calibration=digits / "digits_calib.npz", input_layout="nhwc", input_std=16)
    return path


# ---- What works ------------------------------------------------------------------------------------------------


def test_verify_adds_a_backend_for_each_kernel_set_of_the_board(board: SshBoard, model: Path, digits: Path) -> None:
    names = [f"ssh-127.0.0.1-{name}" for name in SETS]
    code, out, err = edgekit(
        "verify", model, "--input", digits / "digits_test.npz", "--samples", 5, "--on", board.url,
        "--backends", ",".join(["reference", *names]), "--json",
    )  # fmt: skip
    assert code == 0, err
    report = json.loads(out)
    assert [b["name"] for b in report["backends"]] == ["reference", *names]
    assert [b["mismatches"] for b in report["backends"]] == [0] * 4
    assert len({b["digest"] for b in report["backends"]}) == len({b["output_digest"] for b in report["backends"]}) == 1
    reference, *remote = report["backends"]
    assert {b["tensors"] for b in remote} == {reference["tensors"]}, "every 8-bit tensor"
    assert all(b["values"] > reference["values"] for b in remote), "and the outputs of two runs"
    assert board.left() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("machine", "emulator", "sets"),
    [
        ("armv7l", "qemu-arm -cpu cortex-a7", ["scalar", "neon"]),
        ("riscv64", "qemu-riscv64", ["scalar"]),
        ("aarch64", "qemu-aarch64 -cpu cortex-a53", ["scalar", "neon"]),
    ],
)
def test_other_boards_get_their_runtime(board: SshBoard, machine: str, emulator: str, sets: list[str]) -> None:
    if shutil.which(emulator.split()[0]) is None:
        pytest.skip("QEMU is not installed: apt install qemu-user")
    board.uname(machine)
    board.emulator(emulator)
    names = [f"ssh-127.0.0.1-{name}" for name in sets]
    report = verify(NETWORK, samples=3, backends=["reference", *names], on=board.url)
    assert report.ok and [b.name for b in report.backends] == ["reference", *names]
    with pytest.raises(InputError, match="there is no such backend"):
        verify(NETWORK, backends=["ssh-127.0.0.1-neon_dotprod"], on=board.url)


def test_the_board_alone_shows_values(board: SshBoard) -> None:
    """The first backend is what others are held to."""
    report = verify(NETWORK, samples=3, backends=["ssh-127.0.0.1-neon"], on=board.url)
    local = verify(NETWORK, samples=3, backends=["reference"])
    assert report.tensor_digests == local.tensor_digests and report.output_digests == local.output_digests


def test_a_certificate_holds_on_a_board(board: SshBoard, tmp_path: Path) -> None:
    path = tmp_path / "certificate.json"
    assert edgekit("verify", NETWORK, "--samples", 3, "--backends", "reference", "--write-certificate", path)[0] == 0
    code, _, err = edgekit(
        "verify", NETWORK, "--certificate", path, "--on", board.url, "--backends", "reference,ssh-127.0.0.1-neon_dotprod"
    )
    assert code == 0, err


@pytest.mark.parametrize("options", [[], ["--kernels", "neon"], ["--threads", "2"]])
def test_run_gives_the_same_outputs(board: SshBoard, model: Path, digits: Path, tmp_path: Path, options: list[str]) -> None:
    results = []
    for name, on in (("here", []), ("there", ["--on", board.url, *options])):
        path = tmp_path / f"{name}.npz"
        arguments = ["run", model, "--input", digits / "digits_test.npz", "--samples", 7, "-o", path, "--json", *on]
        code, out, err = edgekit(*arguments)
        assert code == 0, err
        results.append((json.loads(out), dict(np.load(path))))
    (here, expected), (there, outputs) = results
    assert here["outputs"] == there["outputs"] and there["kernels"] == ("neon" if options[:1] == ["--kernels"] else SETS[-1])
    for name, array in expected.items():
        assert outputs[name].tobytes() == array.tobytes()
    assert board.left() == []


def test_bench_measures_by_the_clock_of_the_board(board: SshBoard, model: Path) -> None:
    code, out, err = edgekit("bench", model, "--on", board.url, "--seconds", 0.05, "--profile", "--json")
    assert code == 0, err
    result = json.loads(out)
    (timing,) = result["results"]
    assert timing["engine"] == "edgekit" and timing["calls"] >= 120 and result["gmacs_per_s"] > 0
    assert 0 < timing["min_us"] <= timing["median_us"] <= timing["p99_us"]
    assert timing["load_us"] > 0 and timing["first_run_us"] > 0
    assert result["on"]["target"] == "aarch64" and result["on"]["kernels"] == SETS[-1]
    assert [row["op"] for row in result["profile"]] == [op.opcode.name.lower() for op in read(model).ops]
    assert all(row["median_us"] > 0 for row in result["profile"])
    assert any(row["kernel"].endswith("_dotprod") for row in result["profile"])
    assert board.left() == []


def test_tune_measures_on_the_board(board: SshBoard, model: Path, tmp_path: Path) -> None:
    """Every kernel of the emulated processor that computes a layer; which is the fastest does not matter here."""
    table, tuned = tmp_path / "board.json", tmp_path / "tuned.ekm"
    code, out, err = edgekit("tune", model, "--on", board.url, "--seconds", 0.01, "-o", table, "--apply", tuned, "--json")
    assert code == 0, err
    result = json.loads(out)
    assert result["kernels"] == SETS and result["processor"]
    sets = {kernel.name: kernel.set for kernel in listed_kernels()}
    assert {sets[name] for layer in result["layers"] for name in layer["us"]} >= {"neon", "neon_dotprod"}
    assert {sets[layer["default"]] for layer in result["layers"]} >= {"neon_dotprod"}
    assert read(tuned).choices == Table.read(table).choices(read(model))
    assert board.left() == []


def test_a_shell_that_says_welcome(board: SshBoard) -> None:
    board.fault("echo welcome; echo edgekit; echo again >&2")
    assert verify(NETWORK, samples=1, backends=["reference", "ssh-127.0.0.1-neon"], on=board.url).ok


def test_a_folder_whose_name_a_shell_would_read(board: SshBoard, tmp_path: Path) -> None:
    """Nothing of it is a command, a variable or an option."""
    folder = tmp_path / "-a 'b' \"c\" $(touch made) `touch made` ; touch made # *{x}~"
    folder.mkdir()
    with Board(f"{board.url}{quote(str(folder))}") as connected:
        assert connected.put(NETWORK).startswith(f"{folder}/edgekit-")
    assert list(tmp_path.rglob("*")) == [folder]


# ---- What differs ----------------------------------------------------------------------------------------------


def other_weights(folder: Path) -> tuple[Path, str]:
    """A copy of the network with one other weight in its second layer with weights, and the tensor that this layer
    writes."""
    program = read(NETWORK)
    weights = [name for op in program.ops for name in op.inputs if program.tensors[name].data is not None]
    changed = program.tensors[weights[1]].data
    assert changed is not None
    changed.flat[0] ^= 1
    write(program, folder / "other.ekm")
    return folder / "other.ekm", next(op for op in program.ops if weights[1] in op.inputs).outputs[0]


def test_the_first_tensor_that_differs_is_named(board: SshBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A board whose copy of the model has one other weight."""
    other, tensor = other_weights(tmp_path)
    put = Board.put
    monkeypatch.setattr(Board, "put", lambda self, path: put(self, other))
    report = verify(NETWORK, samples=5, backends=["reference", "ssh-127.0.0.1-neon"], on=board.url)
    local = verify(other, samples=5, backends=["reference"])
    first = report.backends[1].first
    assert first is not None and first.tensor == tensor and first.value != first.expected
    op = next(op for op in read(NETWORK).ops if op.outputs[0] == tensor)
    assert re.fullmatch(
        rf"ssh-127.0.0.1-neon differs from reference: sample \d+, {op.opcode.name} '{re.escape(op.name)}', tensor "
        rf"'{re.escape(tensor)}' \[.*\] \(channel \d+\): -?\d+ instead of -?\d+; \d+ of \d+ values differ",
        report.problems()[0],
    )
    assert report.backends[1].digest == local.backends[0].digest, "what it shows is what that model computes"


def test_a_command_that_finds_a_difference_ends_with_1(board: SshBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other, tensor = other_weights(tmp_path)
    put = Board.put
    monkeypatch.setattr(Board, "put", lambda self, path: put(self, other))
    code, _, err = edgekit(
        "verify", NETWORK, "--samples", 5, "--on", board.url, "--backends", "reference,ssh-127.0.0.1-scalar"
    )
    assert code == 1 and err.count("\n") == 1 and f"tensor '{tensor}'" in err
    assert board.left() == []


def test_a_board_that_computes_unreliably_is_no_match(board: SshBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Digests of other values than those that it shows when asked."""
    from edgekit.serving import Client

    run = Client.run

    def unreliable(self: Client, instance, sample, show=Show.OUTPUTS):  # type: ignore[no-untyped-def]
        reply = run(self, instance, sample, show)
        if show == Show.DIGESTS:
            reply.tensors.update(dict.fromkeys(reply.tensors, bytes(32)))
        return reply

    monkeypatch.setattr(Client, "run", unreliable)
    with pytest.raises(CheckError, match=r"ssh-127.0.0.1-neon: .* two runs on the same inputs differ"):
        verify(NETWORK, samples=1, backends=["reference", "ssh-127.0.0.1-neon"], on=board.url)


def test_tensors_travel_only_where_one_differs(board: SshBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgekit.serving import Client

    asked: list[Show] = []
    run = Client.run

    def noted(self: Client, instance, sample, show=Show.OUTPUTS):  # type: ignore[no-untyped-def]
        asked.append(show)
        return run(self, instance, sample, show)

    monkeypatch.setattr(Client, "run", noted)
    verify(NETWORK, samples=3, backends=["reference", "ssh-127.0.0.1-neon"], on=board.url)
    assert asked == [Show.DIGESTS, Show.OUTPUTS] * 3


# ---- What goes wrong -------------------------------------------------------------------------------------------


def refused(*arguments: object) -> str:
    """What a command that cannot be done says: one line."""
    code, out, err = edgekit(*arguments)
    assert code == 2 and out == "" and err.count("\n") == 1, (code, err)
    return err


def bench(url: str, *options: object) -> str:
    return refused("bench", NETWORK, "--on", url, "--seconds", 0.01, *options)


def test_a_host_that_cannot_be_reached(board: SshBoard) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert re.search(rf"ssh://127.0.0.1:{port}: cannot be reached: .*[Cc]onnection refused", bench(f"ssh://127.0.0.1:{port}"))
    assert "cannot be reached: " in bench("ssh://no-such-host.invalid")


def test_a_refused_key(board: SshBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    client = board.folder / "client"
    (tmp_path / "config").write_text((client / "config").read_text().replace(str(client / "key"), str(tmp_path / "key")))
    (tmp_path / "ssh").write_text((client / "ssh").read_text().replace(str(client / "config"), str(tmp_path / "config")))
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    message = bench(board.url)
    assert f"{board.url}: refuses the key (" in message and "ssh-copy-id -p" in message


def test_an_unknown_host_key(board: SshBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = board.folder / "client"
    (tmp_path / "config").write_text((client / "config").read_text().replace("known_hosts", "others"))
    (tmp_path / "ssh").write_text((client / "ssh").read_text().replace(str(client / "config"), str(tmp_path / "config")))
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert "its host key is not the known one, or none is" in bench(board.url)


@pytest.mark.parametrize(
    ("machine", "system", "message"),
    [
        ("sparc64", "Linux", "is of an unknown architecture, sparc64; known are aarch64, amd64, arm64, armv6l"),
        ("arm64", "Darwin", "runs Darwin; boards with Linux can be used"),
    ],
)
def test_an_unknown_architecture(board: SshBoard, machine: str, system: str, message: str) -> None:
    board.uname(machine, system)
    assert message in bench(board.url)
    assert board.left() == []


def test_a_program_that_the_board_does_not_execute(board: SshBoard) -> None:
    """It is not of this machine's processor, and nothing emulates it."""
    board.fault("case $SSH_ORIGINAL_COMMAND in *chmod*) PATH=${PATH#*:} ;; esac")
    assert re.search(r"cannot execute /\S+/edgekit-run: Exec format error; name another folder of the board", bench(board.url))
    assert board.left() == []


def test_a_folder_without_execute_permission(board: SshBoard) -> None:
    board.fault(r"""case $SSH_ORIGINAL_COMMAND in *--serve*) chmod 600 "$TMPDIR"/edgekit-*/edgekit-run* ;; esac""")
    assert re.search(r"cannot execute /\S+/edgekit-run: Permission denied; name another folder of the board", bench(board.url))
    assert board.left() == []


def test_no_space(board: SshBoard) -> None:
    """A limit on the size of files: the runtime does not fit."""
    board.fault("trap '' XFSZ; ulimit -f 100")
    message = bench(board.url)
    assert re.search(r"cannot write /\S+/edgekit-run: .*(File too large|No space left)", message)
    assert board.left() == []


@pytest.mark.parametrize("command", ["yes", "tr '\\0' x </dev/zero"])
def test_a_shell_that_prints_without_end(board: SshBoard, command: str) -> None:
    board.fault(command)
    assert "prints without end where it should answer" in bench(board.url)


def test_a_shell_that_never_answers(board: SshBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "CONNECT_SECONDS", 1)
    monkeypatch.setattr(ssh, "GRACE_SECONDS", 0.1)
    board.fault("while :; do echo wait; sleep 0.2; done")
    assert "no answer for 2 seconds" in bench(board.url)


def test_a_file_that_never_arrives(board: SshBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "UPLOAD_SECONDS", 0.5)
    monkeypatch.setattr(ssh, "SLOWEST_BYTES_PER_SECOND", 10**9)
    board.fault('case "$SSH_ORIGINAL_COMMAND" in *edgekit-run*) exec sleep 1000 ;; esac')
    assert re.search(r"cannot write .*/edgekit-run in \d+ seconds", bench(board.url))


def test_a_folder_that_is_not_there(board: SshBoard) -> None:
    assert re.search(r"cannot make a temporary folder: .*/no/such", bench(f"{board.url}/no/such"))


def test_another_folder_on_the_board(board: SshBoard, tmp_path: Path) -> None:
    (tmp_path / "a b'c").mkdir()
    with Board(f"{board.url}{tmp_path}/a%20b'c") as connected:
        assert {path.name for path in (tmp_path / "a b'c").glob("*/*")} == {"edgekit-run", "edgekit-run.elf"}
        assert board.left() == [] and list(connected.capabilities.kernel_sets) == SETS
    assert list((tmp_path / "a b'c").iterdir()) == []


def test_a_runtime_that_dies_is_one_message(board: SshBoard) -> None:
    program = read(NETWORK)
    sample = {"input0": np.zeros(program.tensors["input0"].shape, np.float32)}
    message = r"^name: .*ended early: killed by SIGKILL"
    with Board(board.url) as connected, pytest.raises(CheckError, match=message), connected.serve("name") as client:
        client.load_file(program, connected.put(NETWORK))
        instance = client.prepare()
        for number, line in processes("edgekit-run", "--serve", str(board.folder)):
            if line.startswith("qemu-aarch64"):
                os.kill(number, signal.SIGKILL)
        client.run(instance, sample, Show.DIGESTS)
    assert board.left() == []


def processes(*words: str) -> list[tuple[int, str]]:
    """Identifiers and command lines of processes below this one or sshd whose command line has all `words`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if all(word in line for word in words):
            found.append((int(path.parent.name), line))
    return found


def test_a_connection_that_is_lost(board: SshBoard) -> None:
    program = read(NETWORK)
    sample = {"input0": np.zeros(program.tensors["input0"].shape, np.float32)}
    with Board(board.url) as connected:
        with pytest.raises(BoardError, match=rf"{board.url}: the connection was lost"), connected.serve() as client:
            client.load_file(program, connected.put(NETWORK))
            instance = client.prepare()
            master = processes("ControlMaster=yes", str(connected._session._socket))
            assert master
            for number, _ in master:
                os.kill(number, signal.SIGKILL)
            client.run(instance, sample)
        with pytest.raises(BoardError, match=rf"{board.url}: "):
            connected.put(Path(__file__))
    until(lambda: board.left() == [])


def until(holds) -> None:  # type: ignore[no-untyped-def]
    """Waits for what another process does."""
    for _ in range(600):
        if holds():
            return
        time.sleep(0.05)
    pytest.fail("it does not come")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_after_a_signal(board: SshBoard, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "edgekit", "bench", str(NETWORK), "--on", board.url, "--seconds", "3600"]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=as_from_a_terminal
    )
    try:
        until(lambda: any((board.folder / "tmp").glob("*/*.ekm")) or process.poll() is not None)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    if number == signal.SIGINT:
        assert process.returncode == 130 and err.strip() in ("", "edgekit: interrupted")
    until(lambda: board.left() == [])
    until(lambda: not processes("edgekit-run --serve", str(board.folder)))


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1", "http://127.0.0.1", "ssh://", "ssh://-oProxyCommand=x", "ssh://u:secret@h", "ssh://h:port", "ssh://h?x",
     "ssh://h:0", "ssh://h:65536", "ssh://h/a%00b", "ssh://h/a%0Ab", "ssh://h;id", "ssh://$(id)@h", "ssh://-l@h"],
)  # fmt: skip
def test_an_address_that_is_none(url: str) -> None:
    assert "give ssh://[user@]host[:port]" in bench(url)


def test_addresses() -> None:
    assert Address.parse("ssh://pi@raspberrypi.local") == Address("raspberrypi.local", "pi")
    assert Address.parse("ssh://[::1]:2222/home/pi/") == Address("::1", None, 2222, "/home/pi")
    assert str(Address.parse("ssh://pi@[::1]:22/x")) == "ssh://pi@[::1]:22"


def test_options_that_do_not_fit(board: SshBoard, model: Path) -> None:
    assert "without --vs" in bench(board.url, "--vs", "onnxruntime")
    assert "kernel set 'avx2' is not on" in bench(board.url, "--kernels", "avx2")
    message = refused("verify", NETWORK, "--on", board.url, "--backends", "ssh-127.0.0.1-avx2")
    assert "there is no such backend" in message and "ssh-127.0.0.1-neon_dotprod" in message
    for option in ("--batch-threads", "--pipeline"):
        message = refused("run", model, "--input", model.parent / "x.npz", "--on", board.url, option, 2)
        assert f"leave out {option}" in message
    assert board.left() == []


def test_without_ssh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="ssh is not installed: apt install openssh-client"):
        Board("ssh://board")
