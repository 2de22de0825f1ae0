# SPDX-License-Identifier: Apache-2.0
"""Names of kernel sets, as the command line and the certificates use them."""

from __future__ import annotations

from edgekit.errors import EdgekitError, InputError
from edgekit.kernel_sets import kernel_sets, ladder

try:
    from edgekit.runtime import _native
except ImportError as error:
    if error.__cause__ is not None and not isinstance(error.__cause__, Exception):
        raise error.__cause__ from None  # a signal that came while the module was being initialized
    # Otherwise it is a checkout on the path that was never built.
    raise EdgekitError(f"the C runtime of edgekit is not built ({error}): run `pip install .` in the checkout") from error


def built() -> list[str]:
    """Kernel sets that this build of the runtime contains, slowest first."""
    return list(_native.kernel_sets_built())


def available() -> list[str]:
    """Kernel sets that this processor can run, slowest first."""
    return list(_native.kernel_sets_here())


def mask(name: str = "auto") -> int:
    """The `ek_kernels` word for a kernel set.

    Args:
        name: a kernel set, which stands for itself and the slower ones it falls back to where it
            lacks a kernel; or `auto`, all that the processor has.

    Raises:
        InputError: there is no such set, or this processor cannot run it.
    """
    here = _native.kernel_sets_here()
    if name == "auto":
        return sum(here.values())
    if name not in here:
        reason = "is not available on this processor" if name in kernel_sets() else "is unknown"
        raise InputError(f"kernel set '{name}' {reason}: use auto, {', '.join(here)}")
    return sum(here.get(rung, 0) for rung in ladder(name))


def best() -> str:
    """The fastest kernel set of this processor: what `auto` uses first."""
    return available()[-1]
