# SPDX-License-Identifier: Apache-2.0
"""All backends, in the order in which reports list them."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.kernel_sets import kernel_sets
from edgekit.verify.backends.base import Backend, Observation, Sample, Subject
from edgekit.verify.backends.onnxruntime import OnnxRuntime
from edgekit.verify.backends.qemu_system import QemuSystem, boards
from edgekit.verify.backends.qemu_user import user_backends
from edgekit.verify.backends.reference import Reference
from edgekit.verify.backends.runtime import DEFAULT_THREADS, Runtime
from edgekit.verify.backends.ssh import board_backends


def _runtime_sets() -> list[str]:
    """Kernel sets of processors that run Python; those of microcontrollers are left out."""
    return [s.name for s in kernel_sets().values() if s.archs != ("cortexm",)]


def all_backends(subject: Subject, threads: Sequence[int] = DEFAULT_THREADS) -> list[Backend]:
    """Every backend there is on this machine, whether it can run here or not; the first is what the others are held
    to. `threads`: with which numbers of them this machine's runtime runs beside one."""
    runtimes = [Runtime(subject, kernels, threads) for kernels in _runtime_sets()]
    emulated = [QemuSystem(subject, target) for target in boards()]
    return [Reference(subject), *runtimes, OnnxRuntime(subject), *user_backends(subject), *emulated]


__all__ = ["DEFAULT_THREADS", "Backend", "Observation", "Sample", "Subject", "all_backends", "board_backends"]
