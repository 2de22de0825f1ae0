# SPDX-License-Identifier: Apache-2.0
"""What the installed ONNX Runtime cannot do: the newest one for Python 3.10 is 1.23."""

from __future__ import annotations

import onnxruntime
import pytest

from edgekit.importer.check import MAX_OPSET
from edgekit.importer.session import newest_opset

VERSION = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])


def need_opset(opset: int) -> None:
    """Skips the test where ONNX Runtime is older than the opset of a model that it must run."""
    if opset > newest_opset(MAX_OPSET):
        pytest.skip(f"ONNX Runtime {onnxruntime.__version__} is older than opset {opset}")


right_since_1_24 = pytest.mark.skipif(VERSION < (1, 24), reason="ONNX Runtime before 1.24 computes some cases wrongly")
"""For average pooling with some asymmetric windows, and for reductions over no axes."""
