# SPDX-License-Identifier: Apache-2.0
"""The process in which a peer runs, and the one timing loop of all measurements.

    python -I server.py ADAPTER.py [FOLDER ...]

answers requests, a JSON object a line on stdin, with a JSON object a line on stdout, until stdin ends. FOLDERs are
where the adapter's modules are, beside those of the interpreter. Whatever an engine prints goes to stderr.

This file stands alone: it needs Python 3.9 and NumPy, as the interpreters of other engines have them.
"""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import json
import os
import signal
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter_ns, process_time_ns
from typing import Any

import numpy as np

GROUP_NS = 20_000
"""A clock is read at most this often: runs shorter than that are timed in groups."""
MIN_READINGS = 3


class Stopwatch:
    """Times calls of `run` in rounds of equal length."""

    def __init__(self, run: Callable[[], object]) -> None:
        self._run = run
        self.group = 1
        self.readings = MIN_READINGS

    def warm_up(self, seconds: float) -> None:
        """Runs for `seconds`, then settles how many runs are between two clock readings and how many of those
        make a round of as long."""
        times: list[int] = []
        start = now = perf_counter_ns()
        while now - start < seconds * 1e9 or len(times) < MIN_READINGS:
            self._run()
            before, now = now, perf_counter_ns()
            times.append(now - before)
        typical = max(1.0, statistics.median(times[len(times) // 2 :]))
        self.group = max(1, round(GROUP_NS / typical))
        self.readings = max(MIN_READINGS, int(seconds * 1e9 / (typical * self.group)))

    def round(self) -> list[float]:
        """Nanoseconds of a run, one number per clock reading."""
        run, group, times = self._run, range(self.group), []
        run()  # brings code and weights back into the caches that others used
        for _ in range(self.readings):
            start = perf_counter_ns()
            for _ in group:
                run()
            times.append((perf_counter_ns() - start) / self.group)
        return times


class Server:
    """Answers requests with one adapter; each method without underscore is a request of that name."""

    def __init__(self, adapter: Any) -> None:
        self._adapter = adapter
        self._session: Any = None
        self._watch: Stopwatch | None = None
        self._libraries, self._memory = mapped_libraries(), _status_kb("VmRSS")

    def version(self) -> dict[str, Any]:
        return {"version": self._adapter.version()}

    def prepare(self, model: str, samples: str, folder: str, recipe: str) -> dict[str, Any]:
        """Makes the peer's model; `samples` is an `.npz`."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        with np.load(samples) as arrays:
            path = self._adapter.prepare(Path(model), dict(arrays), Path(folder), recipe)
        parts = [part for part in path.parent.iterdir() if part.stem == path.stem]  # weights may lie beside it
        return {"file": str(path), "bytes": sum(part.stat().st_size for part in parts)}

    def start(self, file: str, threads: int, inputs: str) -> dict[str, Any]:
        """Opens a model and runs it once on the arrays of `inputs`, an `.npz`.

        `engine_kb` is what importing the engine takes, `memory_kb` what the process then takes on top at its peak;
        `library_bytes` are the shared libraries that a program would ship with the engine.
        """
        with np.load(inputs) as stored:
            arrays = dict(stored)
        version = self._adapter.version()
        imported = _status_kb("VmRSS")
        begin = perf_counter_ns()
        self._session = self._adapter.start(Path(file), threads, arrays)
        loaded = perf_counter_ns()
        self._session.run()
        ran = perf_counter_ns()
        peak = _status_kb("VmHWM")
        self._watch = Stopwatch(self._session.run)
        without = getattr(self._adapter, "PYTHON_ONLY", ())
        own = {
            path: size
            for path, size in mapped_libraries().items()
            if path not in self._libraries and is_shipped(path, without)
        }
        return {
            "version": version,
            "load_us": (loaded - begin) / 1e3,
            "first_run_us": (ran - loaded) / 1e3,
            "engine_kb": imported - self._memory,
            "memory_kb": max(0, peak - imported),
            "library_bytes": sum(own.values()),
        }

    def output(self) -> dict[str, Any]:
        return {"output": np.asarray(self._session.output(), np.float64).ravel().tolist()}

    def warm_up(self, seconds: float) -> dict[str, Any]:
        assert self._watch is not None
        self._watch.warm_up(seconds)
        return {"group": self._watch.group, "readings": self._watch.readings}

    def round(self) -> dict[str, Any]:
        """`cores` is the processor time of all threads over the time that passed."""
        assert self._watch is not None
        gc.disable()
        try:
            wall, cpu = perf_counter_ns(), process_time_ns()
            times = self._watch.round()
            cores = (process_time_ns() - cpu) / max(1, perf_counter_ns() - wall)
        finally:
            gc.enable()
        return {"ns": times, "cores": cores}


def mapped_libraries() -> dict[str, int]:
    """The shared libraries of this process and their bytes (Linux; nothing elsewhere)."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return {}
    paths = {line.split(maxsplit=5)[-1] for line in maps.read_text().splitlines() if ".so" in line}
    return {path: Path(path).stat().st_size for path in sorted(paths) if Path(path).is_file()}


def is_shipped(path: str, without: Sequence[str] = ()) -> bool:
    """Whether a library belongs to the engine: not to the system, Python, NumPy or a package in `without`."""
    parts = Path(path).parts
    packages = "site-packages" in parts or "dist-packages" in parts
    system = parts[1:2] in (("lib",), ("lib64",), ("usr",)) and not packages
    others = any(part.startswith("numpy") or part in without for part in parts)
    return not system and "lib-dynload" not in parts and not others


def load_adapter(path: Path) -> Any:
    """The module in a file, under a name that no engine has."""
    spec = importlib.util.spec_from_file_location(f"adapter_of_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there for the module of a class
    spec.loader.exec_module(module)
    return module


def _status_kb(field: str) -> int:
    """A field of /proc/self/status in kilobytes; 0 where there is none."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) for line in lines if line.startswith(field + ":")), 0)


def _die_with_parent() -> None:
    """A stopped process would not notice that its parent is gone (Linux)."""
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def main() -> None:
    _die_with_parent()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.path.extend(sys.argv[2:])
    server: Server | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            server = server or Server(load_adapter(Path(sys.argv[1])))
            answer = getattr(server, request.pop("request"))(**request)
        except BaseException as error:  # engines raise what they like, SystemExit among it
            text = (str(error).strip() or type(error).__name__).splitlines()[0]
            answer = {"error": text, "type": type(error).__name__}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
