# SPDX-License-Identifier: Apache-2.0
"""Two builds of the library on models, interleaved in one process: what a change of a kernel gains in whole networks.

    git worktree add --detach ../before main && scons -C ../before && scons
    python benchmarks/builds.py ../before/build/host/libedgekit.so build/host/libedgekit.so MODEL.ekm...

prints median microseconds of a run from C on one thread, and the ratio of the first build's time to the second's: the
median and the quartiles of the ratios within rounds. Both must have the C interface of this checkout. First of all they must
give the same outputs. A call takes some tenths of a microsecond more than in a program in C. `--layers` adds the
operators that differ most; their clocks make short ones a little slower.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np

from edgekit.bench.peers import noise
from edgekit.bench.rounds import Times, interleave
from edgekit.errors import EdgekitError
from edgekit.format.reader import read
from edgekit.runtime import kernels
from edgekit.runtime.capi import ffi

ROUND_NS = 20_000_000
READINGS = 100
"""Of the clock, in a round: so short that on a busy machine most of them are not interrupted, and the median is of those."""
CALIBRATION = 5
"""Runs, the fastest of which says how many make a reading: two builds then read the clock equally often."""


class Build:
    """A model on one build; runs for about ROUND_NS a round."""

    def __init__(self, lib: Any, model: Path, word: int, layers: bool) -> None:
        self._lib = lib
        self._owners: list[Any] = []
        self.times = Times()
        self.layers: dict[int, list[int]] = {}
        self._started = 0
        content = model.read_bytes()
        address = self._memory(len(content))
        ffi.memmove(address, content, len(content))
        self._model = ffi.new("ek_model *")
        self._check(lib.ek_open(self._model, address, len(content), 0), model)
        word &= lib.ek_kernels_built() | lib.EK_REPACK
        size = lib.ek_memory_needed(self._model, word, 1)
        config = ffi.new("ek_config *", {"kernels": word, "threads": 1})
        if layers:
            self._on_op = ffi.callback("void(void *, const ek_op_event *)", self._watch)
            config.on_op = self._on_op
        out = ffi.new("ek_instance **")
        self._check(lib.ek_create(out, self._model, config, self._memory(size), size), model)
        self.instance = out[0]
        self.outputs = self._bind()
        self.run()
        least = min(self._timed(1) for _ in range(CALIBRATION))
        self._group = max(1, int(ROUND_NS / READINGS / least))

    def run(self) -> None:
        self._check(self._lib.ek_run(self.instance), "run")

    def round(self) -> None:
        self.times.add(self._timed(self._group) for _ in range(READINGS))

    def _timed(self, runs: int) -> float:
        """Nanoseconds of one of several runs."""
        start = perf_counter_ns()
        for _ in range(runs):
            self.run()
        return (perf_counter_ns() - start) / runs

    def _bind(self) -> list[np.ndarray]:
        """Noise in every input; the outputs' arrays."""
        lib, outputs = self._lib, []
        for count, describe, bind, is_input in (
            (lib.ek_input_count, lib.ek_input_info, lib.ek_bind_input, True),
            (lib.ek_output_count, lib.ek_output_info, lib.ek_bind_output, False),
        ):
            for index in range(count(self._model)):
                info = ffi.new("ek_io_info *")
                self._check(describe(self._model, index, info), "ports")
                dtype = np.dtype(np.float32 if info.format == lib.EK_FORMAT_FLOAT else np.int8)
                address = self._memory(info.elements * dtype.itemsize)
                array = np.frombuffer(ffi.buffer(address, info.elements * dtype.itemsize), dtype)
                if is_input:
                    array[:] = noise(array.shape, dtype)
                else:
                    outputs.append(array)
                self._check(bind(self.instance, index, address, array.nbytes, info.format), "ports")
        return outputs

    def _memory(self, size: int) -> Any:
        """The address of so many zeros, aligned for the runtime."""
        owner = ffi.new("uint8_t[]", size + 64)
        self._owners.append(owner)
        return owner + -int(ffi.cast("uintptr_t", owner)) % 64

    def _check(self, status: int, what: Path | str) -> None:
        if status != self._lib.EK_OK:
            sys.exit(f"{what}: {ffi.string(self._lib.ek_status_string(status)).decode()}")

    def _watch(self, context: Any, event: Any) -> None:
        if event.done:
            self.layers.setdefault(event.op, []).append(perf_counter_ns() - self._started)
        else:
            self._started = perf_counter_ns()


def compare(libs: list[Any], path: Path, word: int, rounds: int, layers: bool) -> list[Build]:
    """Both builds on a model, timed."""
    pair = [Build(lib, path, word, layers) for lib in libs]
    if any(not np.array_equal(a, b) for a, b in zip(*(build.outputs for build in pair), strict=True)):
        sys.exit(f"{path}: the builds' outputs differ")
    interleave(pair, rounds)
    return pair


def print_layers(path: Path, pair: list[Build], count: int) -> None:
    """Those operators whose medians differ most."""
    names = [op.name for op in read(path).ops]
    medians = [{index: float(np.median(times)) / 1e3 for index, times in build.layers.items()} for build in pair]
    widest = sorted(medians[0], key=lambda index: -abs(medians[0][index] - medians[1][index]))
    for index in widest[:count]:
        first, second = (median[index] for median in medians)
        print(f"|   {names[index]} | {first:.2f} | {second:.2f} | {first / second:.3f} |  |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("builds", nargs=2, type=Path, metavar="libedgekit.so")
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL.ekm")
    parser.add_argument("--kernels", default="auto")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--layers", type=int, default=0, metavar="N", help="the N operators that differ most")
    options = parser.parse_args()
    try:
        print_comparison(options)
    except (OSError, EdgekitError) as error:
        sys.exit(str(error))


def print_comparison(options: argparse.Namespace) -> None:
    """A row for each model.

    Raises:
        OSError, EdgekitError: a library or a model cannot be used.
    """
    libs = [ffi.dlopen(str(path.resolve())) for path in options.builds]
    word = kernels.mask(options.kernels) | libs[0].EK_REPACK
    print("| model | first, us | second, us | first to second | quartiles |\n|---|---:|---:|---:|---:|")
    for path in options.models:
        first, second = compare(libs, path, word, options.rounds, False)
        low, middle, high = first.times.paired_ratios(second.times)
        medians = f"{first.times.median_us:.2f} | {second.times.median_us:.2f}"
        print(f"| {path} | {medians} | {middle:.3f} | {low:.3f} to {high:.3f} |", flush=True)
        if options.layers:
            print_layers(path, compare(libs, path, word, options.rounds, True), options.layers)


if __name__ == "__main__":
    main()
