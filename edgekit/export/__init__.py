# SPDX-License-Identifier: Apache-2.0
"""Writes a program as an ONNX model of int8 operators that computes the same bits."""

from edgekit.export.file import export
from edgekit.export.spell import Exported, nonstandard_ops, spell

__all__ = ["Exported", "export", "nonstandard_ops", "spell"]
