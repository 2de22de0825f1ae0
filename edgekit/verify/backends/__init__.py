# SPDX-License-Identifier: Apache-2.0
"""All backends, in the order in which reports list them."""

from __future__ import annotations

from edgekit.runtime import LADDERS
from edgekit.verify.backends.base import Backend, Observation, Sample, Subject
from edgekit.verify.backends.onnxruntime import OnnxRuntime
from edgekit.verify.backends.reference import Reference
from edgekit.verify.backends.runtime import Runtime

KERNEL_SETS = tuple(dict.fromkeys(name for ladder in LADDERS[:2] for name in ladder))
"""Kernel sets of processors that run Python; those of microcontrollers are left out."""


def all_backends(subject: Subject) -> list[Backend]:
    """Every backend there is, whether it can run here or not; the first is what the others are held to."""
    return [Reference(subject), *(Runtime(subject, kernels) for kernels in KERNEL_SETS), OnnxRuntime(subject)]


__all__ = ["Backend", "Observation", "Sample", "Subject", "all_backends"]
