# SPDX-License-Identifier: Apache-2.0
"""The runtime on every emulated board: random programs of every operator, and what goes wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgekit.building.targets import Target
from edgekit.errors import CheckError, InputError
from edgekit.firmware import serve, toolchain
from edgekit.firmware.serve import Server
from edgekit.format.reader import read
from edgekit.format.writer import write
from edgekit.plan import plan
from edgekit.program import Program
from edgekit.reference.executor import run
from edgekit.serving import Show, pipes
from tests.firmware.boards import ready
from tests.support import OPERATORS, Case, cases

CASES = 8
"""Programs of every operator."""


def programs(count: int, folder: Path) -> Iterator[tuple[Case, Program, bytes]]:
    """Cases with their files, and what those hold."""
    path = folder / "model.ekm"
    for operator in OPERATORS:
        for case in cases(operator, range(2000, 2000 + count)):
            plan(case.program)
            write(case.program, path)
            yield case, read(path), path.read_bytes()


def test_every_operator(target: Target, tmp_path: Path) -> None:
    values = 0
    with Server(target) as server:
        for case, program, data in programs(CASES, tmp_path):
            server.load(program, data)
            names = list(program.tensors)
            for sample in case.samples:
                reply, unobserved = server.infer(sample, Show.VALUES), server.infer(sample)
                outputs, tensors = run(program, sample, taps=True)
                expected = [np.ascontiguousarray(outputs[name]).tobytes() for name in program.outputs]
                assert reply.outputs == unobserved.outputs == expected, case.about
                for index, content in reply.tensors.items():
                    seen = np.frombuffer(content, np.int8)
                    if names[index] in tensors and tensors[names[index]].dtype == np.int8:
                        np.testing.assert_array_equal(seen, tensors[names[index]].ravel(), err_msg=case.about)
                        values += seen.size
                assert reply.stack_bytes < serve.STACK_BYTES
    assert values > 10_000


def test_a_refused_model_is_one_message(any_target: Target, tmp_path: Path) -> None:
    case, program, data = next(programs(1, tmp_path))
    damaged = data[:-1] + bytes([data[-1] ^ 1])
    with Server(any_target) as server:
        with pytest.raises(CheckError, match=f"qemu-{any_target.name}: the runtime refuses the model: status 14"):
            server.load(program, damaged)
        server.load(program, data)  # and it still serves
        assert server.infer(next(iter(case.samples))).outputs


def test_an_emulator_that_ends_is_one_message(
    any_target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an image QEMU ends, or the processor locks up."""
    _, program, data = next(programs(1, tmp_path))
    monkeypatch.setattr(pipes, "SILENCE_SECONDS", 1)
    monkeypatch.setattr(serve, "image", lambda _: Path("missing.elf"))
    with Server(any_target) as server, pytest.raises(CheckError, match=f"qemu-{any_target.name}: (ended early: exit code|no answer)"):
        server.load(program, data)


def test_a_model_beyond_the_boards_memory_is_one_message(any_target: Target, tmp_path: Path) -> None:
    _, program, _ = next(programs(1, tmp_path))
    with Server(any_target) as server, pytest.raises(CheckError, match="does not fit the board's memory"):
        server.load(program, bytes(2**26))


def test_images_are_built_once(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    first = serve.image(target)
    monkeypatch.setattr(toolchain, "run", lambda command: "" if "--version" not in command else pytest.fail("built again"))
    assert serve.image(target) == first


def test_a_cache_that_cannot_be_written(any_target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match="file: File exists; set EDGEKIT_CACHE"):
        serve.image(any_target)


FORBIDDEN_ON_V6M = re.compile(r"\t(?:[su]div|cbn?z|it[te]*|movw|movt|[su]mull|mla|bfi|ubfx|sbfx|v[a-z0-9.]+|ldrd|strd)\t")
"""Instructions of ARMv7-M and above that a compiler would use at once."""


def test_the_m0plus_image_has_nothing_above_armv6m() -> None:
    image = serve.image(ready("cortex-m0plus"))
    attributes = toolchain.run(["arm-none-eabi-readelf", "-A", str(image)])
    assert "Tag_CPU_arch: v6S-M" in attributes or "Tag_CPU_arch: v6-M" in attributes
    listing = toolchain.run(["arm-none-eabi-objdump", "-d", str(image)])
    assert len(listing.splitlines()) > 5000
    assert FORBIDDEN_ON_V6M.findall(listing) == []
    other = toolchain.run(["arm-none-eabi-objdump", "-d", str(serve.image(ready("cortex-m3")))])
    assert FORBIDDEN_ON_V6M.findall(other), "the pattern sees instructions of the next level"
