# SPDX-License-Identifier: Apache-2.0
"""Imports ONNX models: hostile-file checks, simplification, one handler per operator."""

from edgekit.importer.load import ImportedModel, load

__all__ = ["ImportedModel", "load"]
