# SPDX-License-Identifier: Apache-2.0
"""A `.ekm` file as an ONNX file."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

from edgekit.atomic import write_atomically
from edgekit.export.spell import spell
from edgekit.files import check_destination
from edgekit.format.reader import read


def export(model: str | os.PathLike[str] | bytes, output: str | os.PathLike[str]) -> dict[str, Any]:
    """Writes the integer model in the `.ekm` file `model` as the ONNX file `output`, completely or not at all.

    Returns:
        The fields of `edgekit export --json`: `model`, the path written; `ops`, ONNX operator -> count;
        `nonstandard_ops`, those outside the ai.onnx domain.

    Raises:
        FormatError: `model` cannot be read.
        InputError: `output` cannot be written.
    """
    check_destination(output, model)
    exported = spell(read(model))
    write_atomically(output, exported.model.SerializeToString())
    return {
        "model": os.fspath(output),
        "ops": dict(sorted(Counter(node.op_type for node in exported.model.graph.node).items())),
        "nonstandard_ops": exported.nonstandard_ops,
    }
