# SPDX-License-Identifier: Apache-2.0
"""What the writer promises beyond what the reader finds again."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import FormatError, InputError
from edgekit.format.summary import summarize
from edgekit.format.writer import Packing, write
from edgekit.plan import plan
from edgekit.program import Accumulate, Program
from tests import random_programs as programs


def test_same_program_same_bytes(small: Program, root: Path) -> None:
    """Also in another process, with another order of hashing."""
    script = (
        "import hashlib, numpy as np\n"
        "from tests import random_programs as programs\n"
        "from edgekit.format.writer import write\n"
        "from edgekit.plan import plan\n"
        "for seed in range(5):\n"
        "    program = programs.random_program(np.random.default_rng(seed))\n"
        "    plan(program)\n"
        "    print(hashlib.sha256(write(program)).hexdigest())\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert write(small) == write(small)


def test_equal_constants_are_stored_once(small: Program) -> None:
    rng = np.random.default_rng(3)
    b = programs.Builder(rng)
    x = b.lut(b.input("x", (4, 4), quantized=True))
    table = b.program.ops[0].table
    y = b.lut(b.lut(x))
    for op in b.program.ops:
        op.table = table.copy()
    b.output("y", y)
    program = b.finish()
    plan(program)
    assert summarize(write(program))["constant_bytes"] == 256


def test_unused_tensors_are_left_out(small: Program) -> None:
    data = write(small)
    small.add(programs.Tensor("nobody", (7,), region=programs.Region.READONLY, data=np.zeros(7, np.int8)))
    assert write(small) == data


def test_sparse_only_where_it_pays(rng: np.random.Generator) -> None:
    b = programs.Builder(rng)
    b.output("y", b.dense(b.dense(b.input("x", (1, 300), quantized=True))))
    program = b.finish()
    plan(program)
    first, second = (program.tensors[op.inputs[1]] for op in program.ops if isinstance(op, Accumulate))
    for tensor, density in ((first, 0.2), (second, 0.95)):
        tensor.data[...] = np.where(rng.random(tensor.shape) < density, 1, 0)
    encodings = {t["name"]: t["encoding"] for t in summarize(write(program))["tensors"]}
    assert encodings[first.name] == "sparse"
    assert encodings[second.name] == "dense"
    never = summarize(write(program, packing=Packing(sparse_below=0)))
    assert all(t["encoding"] == "dense" for t in never["tensors"])
    assert never["features"] == []
    assert summarize(write(program))["features"] == ["SPARSE_WEIGHTS"]


def test_sections_are_aligned_and_apart(small_file: bytes) -> None:
    from edgekit.format.reader import read_header

    table = read_header(small_file)["section"].reshape(-1, 2)
    used = table[table[:, 1] > 0]
    assert (used[:, 0] % 64 == 0).all()
    assert (used[1:, 0] >= used[:-1].sum(axis=1)).all()


def test_numbers_that_do_not_fit_are_refused_by_name(small: Program) -> None:
    conv = next(op for op in small.ops if isinstance(op, Accumulate))
    conv.strides = (70000, 1)
    with pytest.raises(FormatError, match=f"operator 1 '{conv.name}'.*window out of range"):
        write(small)


def test_an_unplanned_program_is_refused(small: Program) -> None:
    name = small.ops[0].outputs[0]
    small.tensors[name].offset = None
    with pytest.raises(FormatError, match=f"'{name}' has no place in the arena"):
        write(small)


def test_the_file_holds_the_bytes(small: Program, tmp_path: Path) -> None:
    path = tmp_path / "net.ekm"
    data = write(small, path)
    assert path.read_bytes() == data
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~_umask()
    assert files(tmp_path) == ["net.ekm"]


def files(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("before", [None, b"an older model"])
def test_a_full_disk_leaves_nothing_behind(small: Program, tmp_path: Path, before: bytes | None) -> None:
    path = tmp_path / "net.ekm"
    if before is not None:
        path.write_bytes(before)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    try:
        with pytest.raises(InputError, match=r"net\.ekm: cannot be written: File too large") as caught:
            write(small, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    assert files(tmp_path) == ([] if before is None else ["net.ekm"])
    assert before is None or path.read_bytes() == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is not here")
def test_a_full_device_is_reported(small: Program) -> None:
    with pytest.raises(InputError, match="/dev/full: cannot be written: No space left on device"):
        write(small, "/dev/full")
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


def test_folders_that_do_not_exist_are_reported(small: Program, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written: No such file or directory"):
        write(small, tmp_path / "nowhere" / "net.ekm")
    with pytest.raises(InputError, match="cannot be written: Is a directory"):
        write(small, tmp_path)
    assert files(tmp_path) == []


def test_a_link_keeps_pointing_at_the_file(small: Program, tmp_path: Path) -> None:
    (tmp_path / "real.ekm").write_bytes(b"old")
    (tmp_path / "link.ekm").symlink_to("real.ekm")
    data = write(small, tmp_path / "link.ekm")
    assert (tmp_path / "link.ekm").is_symlink()
    assert (tmp_path / "real.ekm").read_bytes() == data
