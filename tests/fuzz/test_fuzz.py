# SPDX-License-Identifier: Apache-2.0
"""The fuzzed path over the corpora under sanitizers, and the fuzzer itself for a bounded time."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.capi.conftest import scons
from tests.sanitizers import skip_without_sanitizers

CORPUS = Path(__file__).parent / "corpus"


@dataclass(frozen=True)
class Fuzzer:
    """The program of tests/fuzz; without libFuzzer it only runs on given files."""

    path: Path
    searches: bool

    def run(self, *arguments: str | Path) -> tuple[int, int]:
        """How many files it executed and how many of those reached a run; no sanitizer may speak."""
        command = [str(self.path), *map(str, arguments)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr[-4000:]
        counts = re.search(r"(\d+) executions, (\d+) ran", result.stderr)
        assert counts is not None, result.stderr[-4000:]
        return int(counts[1]), int(counts[2])


@pytest.fixture(scope="module")
def fuzzer(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Fuzzer:
    """With clang's libFuzzer, or else without; skips where there are no sanitizers either."""
    folder = tmp_path_factory.mktemp("fuzz")
    if shutil.which("clang") is not None:
        result = scons(root, folder, "fuzz", "cc=clang", "sanitize=fuzzer,address,undefined")
        if result.returncode == 0:
            return Fuzzer(folder / "fuzz_model", searches=True)
        assert re.search(r"cannot find|No such file", result.stderr), result.stdout + result.stderr
    result = scons(root, folder, "fuzz", "sanitize=address,undefined")
    skip_without_sanitizers(result.returncode != 0, result.stderr)
    assert result.returncode == 0, result.stdout + result.stderr
    return Fuzzer(folder / "fuzz_model", searches=False)


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["valid", "refuse", "found"])
def test_corpora_under_sanitizers(fuzzer: Fuzzer, folder: str) -> None:
    """Every file that must load also runs, every one that must not is refused, and of those that a search
    found at least a third run: fewer would mean that the format has moved on without them."""
    files = sorted((CORPUS / folder).glob("*.ekm"))
    assert files
    ran = 0
    for start in range(0, len(files), 40):
        executed, reached = fuzzer.run(*files[start : start + 40])
        assert executed >= len(files[start : start + 40])
        ran += reached
    if folder == "valid":
        assert ran >= len(files)
    elif folder == "refuse":
        assert ran == 0
    else:
        assert 3 * ran >= len(files)


@pytest.mark.slow
def test_fuzzer_for_a_while(fuzzer: Fuzzer, tmp_path: Path) -> None:
    """Up to 20,000 executions, of which at least a third reach a run; the search starts anew each time."""
    if not fuzzer.searches:
        pytest.skip("libFuzzer needs clang and its runtime")
    (tmp_path / "new").mkdir()
    limits = [
        "-runs=20000",
        "-max_total_time=30",
        "-max_len=4096",
        "-mutate_depth=2",
        # The peak that libFuzzer compares with its limit of 2 GiB begins at this process's own: Linux carries
        # it across vfork and exec. So single allocations are limited; leaks are found by LeakSanitizer.
        "-rss_limit_mb=0",
        "-malloc_limit_mb=64",
        f"-artifact_prefix={tmp_path}/",
    ]
    corpora = [CORPUS / name for name in ("valid", "refuse", "found")]
    executed, ran = fuzzer.run(*limits, tmp_path / "new", *corpora)
    assert executed > 500
    assert 3 * ran >= executed
