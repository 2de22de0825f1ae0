# SPDX-License-Identifier: Apache-2.0
"""This machine, to be tuned for."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path

from edgekit.bench.peers import noise
from edgekit.bench.rounds import Times
from edgekit.bench.server import Stopwatch
from edgekit.errors import InputError
from edgekit.kernel_sets import ladder
from edgekit.runtime import kernels as kernel_sets
from edgekit.runtime.model import Model, Runner, op_times
from edgekit.tuning.measure import Run


class LocalMachine:
    """The C runtime in this process, with one thread.

    Args:
        kernels: a kernel set and those that it falls back to, or `auto`.

    Raises:
        InputError: this processor does not have it.
    """

    def __init__(self, kernels: str = "auto") -> None:
        kernel_sets.mask(kernels)
        here = kernel_sets.available()
        self._kernels = kernels
        self.kernel_sets = here if kernels == "auto" else [name for name in here if name in ladder(kernels)]

    def open(self, model: bytes) -> Run:
        """As `Machine.open`."""
        runner = _fed(Model(model), self._kernels, observed=True)
        return lambda: op_times(runner)

    def whole(self, model: bytes, seconds: float) -> _Whole:
        """As `Machine.whole`."""
        return _Whole(_fed(Model(model), self._kernels, observed=False), seconds)


class _Whole:
    """Runs of a model in this process."""

    def __init__(self, runner: Runner, seconds: float) -> None:
        self.times = Times()
        self._watch = Stopwatch(runner)
        self._watch.warm_up(seconds)

    def round(self) -> None:
        self.times.add(self._watch.round())


def _fed(model: Model, kernels: str, observed: bool) -> Runner:
    """A runner over noise."""
    runner = Runner(model, kernels, 1, {}, observed, repack=True)
    for port in model.inputs:
        runner.inputs[port.name][...] = noise(port.shape, port.dtype)
    return runner


def processor_name() -> str:
    """What this machine's processor is called.

    Raises:
        InputError: nobody knows.
    """
    name = cpuinfo_name(_cpuinfo()) or platform.machine()
    if not name:
        raise InputError("this machine does not say what its processor is called; tables are kept by that name")
    return name


def cpuinfo_name(text: str) -> str:
    """From /proc/cpuinfo: the model's name on x86, the numbers of implementer and part on ARM; empty where it has neither."""
    fields: Mapping[str, str] = {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())
    }
    if "CPU part" in fields:  # first: 32-bit ARM has a model's name, too, which is the same for different parts
        return f"ARM implementer {fields.get('CPU implementer', '?')} part {fields['CPU part']}"
    return fields.get("model name", "")


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
