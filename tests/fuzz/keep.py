# SPDX-License-Identifier: Apache-2.0
"""Fills tests/fuzz/corpus/found with the files of a search that reach the most code for their size.

    python -m tests.fuzz.keep FUZZER FOLDER

FUZZER is fuzz_model built with libFuzzer, FOLDER where its searches left their files (docs/FUZZING.md).
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
FOUND = CORPUS / "found"
MAX_FILE_BYTES = 4096
MAX_FILES = 160
MAX_BYTES = 192 * 1024
#: What a file costs besides its bytes: one of few bytes that reaches one edge is not worth a file.
FILE_COST = 600


def edges_of(fuzzer: Path, folders: list[Path], scratch: Path) -> dict[Path, set[str]]:
    """The edges of the control flow that each file of at most MAX_FILE_BYTES of `folders` reaches.

    libFuzzer merges into an empty folder and notes them in its control file: a count of files and of those
    it need not run, the paths, then lines `FT index feature...` among others.
    """
    control, unused = scratch / "control", scratch / "unused"
    unused.mkdir()
    options = [
        "-set_cover_merge=1",
        "-use_counters=0",
        f"-max_len={MAX_FILE_BYTES}",
        f"-merge_control_file={control}",
    ]
    command = [str(fuzzer), *options, str(unused), *map(str, folders)]
    subprocess.run(command, capture_output=True, check=True)
    lines = control.read_text().splitlines()
    count = int(lines[0])
    paths = [Path(line) for line in lines[2 : 2 + count]]
    edges = {}
    for line in lines[2 + count :]:
        kind, index, *features = line.split()
        if kind == "FT" and paths[int(index)].stat().st_size <= MAX_FILE_BYTES:
            edges[paths[int(index)]] = set(features)
    return edges


def choose(edges: dict[Path, set[str]], reached: set[str]) -> list[Path]:
    """Greedily the file with the most edges not in `reached` for its cost, up to the limits."""
    left = {path: found - reached for path, found in edges.items()}
    cost = {path: FILE_COST + path.stat().st_size for path in left}
    chosen: list[Path] = []
    total = 0
    while left and len(chosen) < MAX_FILES:
        best = max(left, key=lambda path: (len(left[path]) / cost[path], path.name))
        new = left.pop(best)
        total += best.stat().st_size
        if not new or total > MAX_BYTES:
            break
        chosen.append(best)
        left = {path: found - new for path, found in left.items()}
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fuzzer", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        made = [CORPUS / "valid", CORPUS / "refuse"]
        edges = edges_of(arguments.fuzzer.resolve(), [*made, FOUND, arguments.folder], Path(scratch))
        reached = set().union(*(found for path, found in edges.items() if path.parent in made))
        files = [
            p.read_bytes() for p in choose({p: f for p, f in edges.items() if p.parent not in made}, reached)
        ]
    shutil.rmtree(FOUND, ignore_errors=True)
    FOUND.mkdir()
    for data in files:
        (FOUND / f"{hashlib.sha1(data).hexdigest()[:12]}.ekm").write_bytes(data)
    print(f"{len(files)} files, {sum(map(len, files))} bytes")


if __name__ == "__main__":
    main()
