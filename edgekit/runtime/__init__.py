# SPDX-License-Identifier: Apache-2.0
"""The C runtime in Python: `load` and `model` for users, `capi` for the C interface as it is.

The compiled module is imported on first use, so that `import edgekit` is instant.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgekit.runtime.model import Model


def load(source: str | os.PathLike[str] | bytes, *, check_weights: bool = True) -> Model:
    """Opens a `.ekm` file in the C runtime.

        model = edgekit.load("net.ekm")
        scores = model.run(image)["logits"]

    Args:
        source: a path, or the file's bytes.
        check_weights: verify the checksum of the weights, too.

    Raises:
        FormatError: the file is missing, cannot be read, is damaged, or needs a newer runtime.
    """
    from edgekit.runtime.model import Model

    return Model(source, check_weights)
