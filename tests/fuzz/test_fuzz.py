# SPDX-License-Identifier: Apache-2.0
"""The fuzzed path over the corpora under sanitizers, and the fuzzer itself for a bounded time."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.capi.conftest import scons

CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.slow
def test_corpora_under_sanitizers(root: Path, tmp_path: Path) -> None:
    """Every file that must load also runs, every other one is refused, and no sanitizer has a word to say."""
    result = scons(root, tmp_path, "fuzz", "sanitize=address,undefined")
    if result.returncode != 0 and re.search(r"cannot find .*(asan|ubsan)", result.stderr):
        pytest.skip("the compiler has no sanitizers")
    assert result.returncode == 0, result.stdout + result.stderr
    counts = {}
    for folder in ("valid", "refuse"):
        files = sorted(map(str, (CORPUS / folder).glob("*.ekm")))
        run = subprocess.run([str(tmp_path / "fuzz_model"), *files], capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        executed, ran = map(int, re.search(r"(\d+) executions, (\d+) ran", run.stderr).groups())
        assert executed == len(files)
        counts[folder] = ran
    assert counts == {"valid": len(list((CORPUS / "valid").glob("*.ekm"))), "refuse": 0}


@pytest.mark.slow
def test_fuzzer_for_a_while(root: Path, tmp_path: Path) -> None:
    """20,000 executions of which at least a third reach a run; the search starts anew each time."""
    if shutil.which("clang") is None:
        pytest.skip("libFuzzer needs clang")
    (tmp_path / "new").mkdir()
    result = scons(root, tmp_path, "fuzz", "cc=clang", "sanitize=fuzzer,address,undefined")
    if result.returncode != 0 and "libclang_rt.fuzzer" in result.stderr:
        pytest.skip("clang has no libFuzzer")
    assert result.returncode == 0, result.stdout + result.stderr
    command = [tmp_path / "fuzz_model", "-runs=20000", "-max_total_time=60", "-max_len=4096", "-mutate_depth=2"]
    command += [f"-artifact_prefix={tmp_path}/", tmp_path / "new", CORPUS / "valid", CORPUS / "refuse"]
    run = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-4000:]
    executed, ran = map(int, re.search(r"(\d+) executions, (\d+) ran", run.stderr).groups())
    assert executed > 1000
    assert 3 * ran >= executed
