# SPDX-License-Identifier: Apache-2.0
"""The C runtime in Python: `load` and `model` for users, `capi` for the C interface as it is.

The compiled module is imported on first use, so that `import edgekit` is instant.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgekit.runtime.model import Model

LADDERS = (
    ("scalar", "sse41", "avx2", "avxvnni", "avx512vnni"),
    ("scalar", "neon", "neon_dotprod", "neon_i8mm"),
    ("scalar", "cortexm_dsp", "cortexm_mve"),
)
"""Every kernel set by the name that `ek_kernels_name` gives it: of x86, of Arm with NEON, of Cortex-M. A set may
use every kernel of the sets before it in its ladder."""


def load(source: str | os.PathLike[str] | bytes, *, check_weights: bool = True) -> Model:
    """Opens a `.ekm` file in the C runtime.

        model = edgekit.load("net.ekm")
        scores = model.run(image)["logits"]

    Args:
        source: a path, or the file's bytes.
        check_weights: verify the checksum of the weights, too.

    Raises:
        FormatError: the file is damaged, or needs a newer runtime.
        OSError: it cannot be read.
    """
    from edgekit.runtime.model import Model

    return Model(source, check_weights)
