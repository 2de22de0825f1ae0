# SPDX-License-Identifier: Apache-2.0
"""What a serving runtime replies, as a backend shows it."""

from __future__ import annotations

import numpy as np

from edgekit.errors import CheckError
from edgekit.program import Program
from edgekit.serving import Capabilities, Reply
from edgekit.verify.backends.base import Arrays


def quantized(program: Program, reply: Reply) -> dict[str, bytes]:
    """What the reply says of each 8-bit tensor: its content or its digest."""
    names = list(program.tensors)
    wanted = {tensor.name for tensor in program.quantized()}
    return {names[index]: content for index, content in reply.tensors.items() if names[index] in wanted}


def tensors(program: Program, reply: Reply) -> Arrays:
    """The 8-bit tensors of a reply that shows values."""
    return {
        name: np.frombuffer(content, np.int8).reshape(program.tensors[name].shape)
        for name, content in quantized(program, reply).items()
    }


def only(name: str, capabilities: Capabilities, kernels: str) -> int:
    """The bits of a kernel set and of those that it falls back to.

    Raises:
        CheckError: the processor does not have it.
    """
    bits = capabilities.bits(kernels)
    if bits is None:
        here = ", ".join(capabilities.kernel_sets)
        raise CheckError(f"{name}: this build or this processor does not have {kernels}; it has {here}")
    return bits
