# SPDX-License-Identifier: Apache-2.0
"""edgekit-run --serve on this machine: what it replies, and what goes wrong."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgekit.building.cache import cached_build
from edgekit.building.targets import read_target
from edgekit.errors import CheckError
from edgekit.format.reader import read
from edgekit.program import Program
from edgekit.reference.executor import run
from edgekit.runtime.header import numbers
from edgekit.serving import Pipes, Show, pipes, process, protocol
from edgekit.serving.process import serving
from edgekit.verify.samples import synthetic

NETWORK = Path(__file__).resolve().parents[1] / "fuzz" / "corpus" / "valid" / "network.ekm"


@pytest.fixture(scope="session")
def runner(root: Path) -> list[str]:
    """The command that serves."""
    target = read_target(root, "host")
    return [str(cached_build(target, target.toolchain(), "runner") / "edgekit-run"), "--serve"]


@pytest.fixture(scope="module")
def program() -> Program:
    return read(NETWORK)


def sample(program: Program) -> dict[str, np.ndarray]:
    """Noise."""
    samples = synthetic(program, 1)
    return [next(samples) for _ in range(12)][-1]


def test_what_it_can_run(runner: list[str]) -> None:
    from edgekit.runtime import kernels

    with serving("here", runner) as client:
        capabilities = client.hello()
    assert list(capabilities.kernel_sets) == kernels.available()
    assert capabilities.bits("scalar") == 1 and capabilities.bits("cortexm_dsp") is None
    assert capabilities.processors >= 1


@pytest.mark.parametrize("by_file", [False, True])
def test_a_run_shows_what_is_asked_for(runner: list[str], program: Program, by_file: bool) -> None:
    inputs = sample(program)
    outputs, tensors = run(program, inputs, taps=True)
    known = {**tensors, **outputs}
    expected = {i: np.ascontiguousarray(known[name]).tobytes() for i, name in enumerate(program.tensors) if name in known}
    with serving("here", runner) as client:
        took = client.load_file(program, str(NETWORK)) if by_file else client.load(program, NETWORK.read_bytes())
        plain, shared = client.prepare(), client.prepare(threads=3, repack=True)
        assert took > 0 and plain.nanoseconds > 0 and shared.memory_bytes > plain.memory_bytes > plain.scratch_bytes
        assert len(plain.kernels) == len(plain.ops) and set(plain.ops) == set(range(len(program.ops)))
        for instance in (plain, shared, plain):
            replies = {show: client.run(instance, inputs, show) for show in Show}
            for reply in replies.values():
                assert {name: array.tobytes() for name, array in reply.arrays(program).items()} == {
                    name: np.ascontiguousarray(array).tobytes() for name, array in outputs.items()
                }
                assert reply.nanoseconds > 0 and reply.stack_bytes == 0
            assert replies[Show.OUTPUTS].tensors == {}
            written = [list(program.tensors).index(op.outputs[0]) for op in program.ops]
            assert list(replies[Show.VALUES].tensors) == written
            for index, content in replies[Show.VALUES].tensors.items():
                assert content == expected[index]
                assert replies[Show.DIGESTS].tensors[index] == hashlib.sha256(content).digest()
                assert len(replies[Show.TIMES].tensors[index]) == 8


def test_times_of_many_runs(runner: list[str], program: Program) -> None:
    with serving("here", runner) as client:
        client.load(program, NETWORK.read_bytes())
        instance = client.prepare()
        client.run(instance, sample(program))
        times = client.time(instance, protocol.MAX_RUNS + 5)
    assert times.shape == (protocol.MAX_RUNS + 5,) and (times > 0).all()


def test_another_model_takes_the_place_of_the_first(runner: list[str], program: Program) -> None:
    data = NETWORK.read_bytes()
    with serving("here", runner) as client:
        for _ in range(3):
            client.load(program, data)
            assert [client.prepare(threads=2).number for _ in range(2)] == [0, 1]
        with pytest.raises(CheckError, match=r"here: the runtime refuses the model: status 14 \(EK_ERROR_CHECKSUM\)"):
            client.load(program, data[:-1] + bytes([data[-1] ^ 1]))
        client.load(program, data)
        assert client.run(client.prepare(), sample(program)).outputs


def number(*values: int) -> bytes:
    return b"".join(value.to_bytes(4, "little") for value in values)


MODEL = number(protocol.MODEL, NETWORK.stat().st_size) + NETWORK.read_bytes()
PREPARE = number(protocol.PREPARE, 0, 1, 0)


@pytest.mark.parametrize(
    ("request_bytes", "code"),
    [
        (b"", "EK_SERVE_BROKEN_PIPE"),
        (number(protocol.MODEL, 100) + bytes(99), "EK_SERVE_BROKEN_PIPE"),
        (number(99), "EK_SERVE_BAD_REQUEST"),
        (number(protocol.FILE, 9) + b"/no/model", "EK_SERVE_BAD_REQUEST"),
        (number(protocol.FILE, 2**31), "EK_SERVE_BAD_REQUEST"),
        (PREPARE, "EK_SERVE_BAD_REQUEST"),
        (MODEL + number(protocol.PREPARE, 0, 65, 0), "EK_SERVE_BAD_REQUEST"),
        (MODEL + number(protocol.PREPARE, 0, 1, 2), "EK_SERVE_BAD_REQUEST"),
        (MODEL + PREPARE * 5, "EK_SERVE_BAD_REQUEST"),
        (MODEL + PREPARE + number(protocol.RUN, 1, 0), "EK_SERVE_BAD_REQUEST"),
        (MODEL + PREPARE + number(protocol.RUN, 0, 4), "EK_SERVE_BAD_REQUEST"),
        (MODEL + PREPARE + number(protocol.TIME, 0, protocol.MAX_RUNS + 1), "EK_SERVE_BAD_REQUEST"),
        (MODEL + PREPARE + number(protocol.TIME, 0, 1), "EK_SERVE_BAD_REQUEST"),  # no inputs yet
    ],
)
def test_requests_that_cannot_be_served_end_it(root: Path, runner: list[str], request_bytes: bytes, code: str) -> None:
    codes = numbers((root / "csrc" / "serve" / "protocol.h").read_text())
    done = subprocess.run(runner, input=request_bytes, stdout=subprocess.DEVNULL, check=False)
    assert done.returncode == codes[code]


def test_a_program_that_ends_is_one_message(runner: list[str], program: Program) -> None:
    with pytest.raises(CheckError, match=r"^here: ended early: bad request$"), serving("here", runner) as client:
        client.load_file(program, "/no/model")
    command = [sys.executable, "-c", "import sys; sys.exit('no\\nmore')"]
    with pytest.raises(CheckError, match=r"^here: ended early: exit code 1; no$"), serving("here", command) as client:
        client.hello()


CUT = """
import os, signal, subprocess, sys
server = subprocess.Popen({runner!r}, stdout=subprocess.PIPE)
left = {count}
while left:
    left -= os.write(1, os.read(server.stdout.fileno(), left))
server.kill()
os.kill(os.getpid(), signal.SIGILL)
"""
"""A program that gives the first bytes of what the runner replies, then meets an illegal instruction."""


def test_a_program_that_is_killed_names_the_operator(
    runner: list[str], program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, done = sample(program), 3
    read_bytes: list[int] = []
    take = Pipes.read

    def counted(self: Pipes, count: int) -> bytes:
        read_bytes.append(count)
        return take(self, count)

    with monkeypatch.context() as patch, serving("here", runner) as client:
        patch.setattr(Pipes, "read", counted)
        client.load(program, NETWORK.read_bytes())
        instance = client.prepare()
        before = sum(read_bytes)
        sizes = [8 + len(content) for content in client.run(instance, inputs, Show.VALUES).tensors.values()]
    script = CUT.format(runner=runner, count=before + sum(sizes[:done]))
    op = program.ops[done]
    message = rf"^here: in {op.opcode.name} '{re.escape(op.name)}': ended early: killed by SIGILL$"
    with pytest.raises(CheckError, match=message), serving("here", [sys.executable, "-c", script]) as client:
        client.load(program, NETWORK.read_bytes())
        client.run(client.prepare(), inputs, Show.VALUES)


def test_a_program_that_hangs_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipes, "SILENCE_SECONDS", 0.2)
    command = [sys.executable, "-c", "import time; time.sleep(1000)"]
    with pytest.raises(CheckError, match=r"^here: no answer for 0.2 seconds$"), serving("here", command) as client:
        client.hello()


def test_a_program_that_speaks_otherwise_is_one_message() -> None:
    command = ["sh", "-c", "echo welcome; cat >/dev/null"]
    with pytest.raises(CheckError, match=r"^here: answers in protocol \d+, not \d+$"), serving("here", command) as client:
        client.hello()


REPLYING = "import sys; sys.stdout.buffer.write(bytes.fromhex(sys.argv[1])); sys.stdout.flush(); sys.stdin.read()"
"""A program that says the same whatever it is asked."""
HELLO = number(protocol.VERSION, 4)
OPENED = number(0, 0, 0, 0)
PREPARED = OPENED + number(0, 0, 100, 10, 0, 0)


@pytest.mark.parametrize(
    ("reply", "what"),
    [
        (HELLO + number(2**32 - 1), "a count"),
        (HELLO + number(0), "kernel sets"),
        (HELLO + number(1, 1, 2**31), "a count"),
        (HELLO + number(1, 1, 2) + b"\xff\xfe", "a name"),
        (HELLO + number(1, 1, 4) + b"sse9", "kernel sets"),
    ],
)
def test_what_cannot_be_capabilities_is_one_message(reply: bytes, what: str) -> None:
    command = [sys.executable, "-c", REPLYING, reply.hex()]
    with pytest.raises(CheckError, match=f"^here: replies what cannot be {what}$"), serving("here", command) as client:
        client.hello()


@pytest.mark.parametrize(
    ("reply", "what"),
    [
        (OPENED + number(0, 0, 100, 10, 0, 0, 2**32 - 1), "a count"),
        (PREPARED + number(1, 2**16, 0), "an operator"),
        (PREPARED + number(1, 0, 256), "a count"),
        (PREPARED + number(1, 0, 0, 2**16, 32), "a tensor"),
        (PREPARED + number(1, 0, 0, 1, 33), "a tensor"),
        (PREPARED + number(1, 0, 0, 1, 2**32 - 1), "a tensor"),
        (PREPARED + number(1, 0, 0) + (number(1, 32) + bytes(32)) * 100, "a tensor"),
    ],
)
def test_what_cannot_be_a_run_is_one_message(program: Program, reply: bytes, what: str) -> None:
    assert len(program.ops) < 100
    command = [sys.executable, "-c", REPLYING, reply.hex()]
    message = rf"^here: (in \w+ '.*': )?replies what cannot be {what}$"
    with pytest.raises(CheckError, match=message), serving("here", command) as client:
        client.load(program, b"")
        client.run(client.prepare(), sample(program), Show.DIGESTS)


def test_a_program_that_prints_without_end_is_one_message() -> None:
    command = [sys.executable, "-c", "while True: print('y')"]
    message = "^here: prints without end before it serves$"
    with pytest.raises(CheckError, match=message), serving("here", command, mark=b"mark") as client:
        client.hello()


def test_a_program_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GRACE_SECONDS", 0.1)
    reply = HELLO + number(1, 1, 6) + b"scalar"
    command = [sys.executable, "-c", f"{REPLYING}; import time; time.sleep(1000)", reply.hex()]
    with serving("here", command) as client:
        assert client.hello().kernel_sets == {"scalar": 1}


def test_the_numbers_are_those_of_the_headers(root: Path) -> None:
    """Every enumerator of the protocol has a number of its own within its list."""
    text = (root / "csrc" / "serve" / "protocol.h").read_text()
    known = numbers(text)
    for name in re.findall(r"\bEK_SERVE_\w+", re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)):
        assert name in known or name in ("EK_SERVE_PROTOCOL_H",)
    assert numbers("#define EK_A 0x10u\n/* EK_B = 3 */\ntypedef enum { EK_C = 7, /* c */\n    EK_D = 8 } e;") == {"EK_A": 16, "EK_D": 8}
