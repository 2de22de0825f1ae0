# SPDX-License-Identifier: Apache-2.0
"""What the libraries contain, and the tool beside them."""

from __future__ import annotations

import re
import shutil
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest

from tests.capi.conftest import scons
from tests.capi.net import Net

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"
ALLOWED = {"memcpy", "memmove", "memset", "_GLOBAL_OFFSET_TABLE_", "__stack_chk_fail"}
"""What the core takes from elsewhere; the last two come from how some compilers are set up."""


def nm(library: Path, *flags: str) -> list[list[str]]:
    if shutil.which("nm") is None:
        pytest.skip("nm is not installed")
    text = subprocess.run(["nm", *flags, str(library)], capture_output=True, text=True, check=True).stdout
    return [line.split() for line in text.splitlines() if line.strip() and not line.endswith(":")]


def test_the_core_needs_no_allocator_no_stdio_no_libm(built: Path) -> None:
    symbols = nm(built / "libedgekit.a")
    defined = {s[-1] for s in symbols if len(s) == 3}
    wanted = {s[-1] for s in symbols if len(s) == 2 and s[0] == "U"}
    assert wanted - defined <= ALLOWED


def test_the_core_has_no_mutable_globals(built: Path) -> None:
    """Data that is written at load time only (.data.rel.ro) is listed as `d` too; nothing else may be."""
    writable = [s[-1] for s in nm(built / "libedgekit.a") if len(s) == 3 and s[1] in "DBbCGgSs"]
    assert writable == []


def test_the_shared_library_exports_the_public_api_alone(built: Path, root: Path) -> None:
    headers = "".join(path.read_text() for path in (root / "csrc" / "include" / "edgekit").glob("*.h"))
    declared = set(re.findall(r"EK_API\s[^;(]*?\**(ek_\w+)\(", headers))
    exported = {s[-1] for s in nm(built / "libedgekit.so", "-D", "--defined-only")}
    assert exported == declared


def test_text_is_small(built: Path) -> None:
    """Code and constants of the core and the kernel sets up to AVX2; with all sets, of the shared library."""
    assert (built / "libedgekit.so").stat().st_size < 400_000
    if shutil.which("size") is None:
        pytest.skip("size is not installed")
    text = subprocess.run(
        ["size", str(built / "libedgekit.a")], capture_output=True, text=True, check=True
    ).stdout
    newer = ("_avxvnni.o", "_avx512vnni.o", "_avx512vbmi.o")
    sizes = {line.split()[5]: int(line.split()[0]) for line in text.splitlines()[1:]}
    assert sum(size for name, size in sizes.items() if not name.endswith(newer)) < 200_000


def test_edgekit_run_gives_the_same_outputs(built: Path, tmp_path: Path) -> None:
    path = CORPUS / "valid" / "network.ekm"
    samples = np.random.default_rng(6).normal(0, 3, (3, 1, 2, 8, 7)).astype(np.float32)
    np.save(tmp_path / "x.npy", samples)
    command = [
        built / "edgekit-run",
        path,
        "--input",
        tmp_path / "x.npy",
        "--output",
        tmp_path / "y",
        "--digest",
    ]
    output = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout
    net = Net(path.read_bytes())
    want = np.stack([next(iter(net.run({"input0": x}).values())) for x in samples])
    np.testing.assert_array_equal(np.fromfile(tmp_path / "y", np.float32), want.ravel())
    assert re.search(r"^output '\w+' (\w+)$", output, re.M)[1] == f"{zlib.crc32(want.tobytes()):08x}"
    assert len(re.findall(r"^op \d+ opcode", output, re.M)) == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "usage: edgekit-run"),
        (["missing.ekm"], "missing.ekm: cannot be read"),
        (["{net}"], "needs as many --input"),
        (["{net}", "--input", "{other}"], "whole number of samples"),
        (["{net}", "--kernels", "fast"], "no kernel set of that name"),
        (["{net}", "--threads", "0"], "--threads: needs a number in range"),
        (["{net}", "--what"], "unknown option"),
        (["{net}", "--input"], "--input: needs a value"),
        (["{refused}"], "another major format version"),
    ],
)
def test_edgekit_run_refuses_in_one_line(built: Path, arguments: list[str], message: str) -> None:
    places = {
        "net": CORPUS / "valid" / "network.ekm",
        "other": CORPUS / "valid" / "moves.ekm",
        "refused": CORPUS / "refuse" / "VERSION-major.ekm",
    }
    command = [str(built / "edgekit-run"), *(a.format(**places) for a in arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert message in result.stderr
    assert arguments == [] or result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("target=toaster", "unknown target toaster; known are aarch64, "),
        ("tarteg=host", "unknown option tarteg; known are target"),
        ("sanitize=adress", "unknown sanitizer in adress; known are address"),
    ],
)
def test_scons_refuses_what_it_does_not_know(root: Path, tmp_path: Path, argument: str, message: str) -> None:
    result = scons(root, tmp_path, argument)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("target", ["x86-64-v4"])
def test_targets_build(root: Path, tmp_path: Path, target: str) -> None:
    result = scons(root, tmp_path, f"target={target}", "werror=yes", str(tmp_path / "edgekit-run"))
    if "no compiler for target" in result.stderr:
        pytest.skip(result.stderr.strip())
    assert result.returncode == 0, result.stdout + result.stderr
    assert (tmp_path / "edgekit-run").exists()
