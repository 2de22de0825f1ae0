# SPDX-License-Identifier: Apache-2.0
"""All backends, in the order in which reports list them."""

from __future__ import annotations

from edgekit.verify.backends.base import Backend, Observation, Sample, Subject
from edgekit.verify.backends.onnxruntime import OnnxRuntime
from edgekit.verify.backends.reference import Reference
from edgekit.verify.backends.runtime import Runtime

KERNEL_SETS = ("scalar", "sse41", "avx2", "avxvnni", "avx512vnni", "neon", "neon_dotprod", "neon_i8mm")
"""Kernel sets of processors that run Python; those of microcontrollers are compared under QEMU."""


def all_backends(subject: Subject) -> list[Backend]:
    """Every backend there is, whether it can run here or not; the first is what the others are held to."""
    return [Reference(subject), *(Runtime(subject, kernels) for kernels in KERNEL_SETS), OnnxRuntime(subject)]


__all__ = ["Backend", "Observation", "Sample", "Subject", "all_backends"]
