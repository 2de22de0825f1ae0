# SPDX-License-Identifier: Apache-2.0
"""edgekit turns a trained ONNX model into a flat int8 file, runs it in C, and proves the result bit for bit.

    import edgekit

    edgekit.convert("net.onnx", "net.ekm", calibration="images.npz", input_layout="nhwc", input_std=255)
    model = edgekit.load("net.ekm")
    scores = model.run(image)["logits"]
    assert model.verify(images).ok
"""

from edgekit._version import __version__
from edgekit.commands.convert import Converted, convert
from edgekit.errors import CheckError, DataError, EdgekitError, FormatError, InputError, ModelError
from edgekit.runtime import load

__all__ = [
    "CheckError",
    "Converted",
    "DataError",
    "EdgekitError",
    "FormatError",
    "InputError",
    "ModelError",
    "__version__",
    "convert",
    "load",
]
