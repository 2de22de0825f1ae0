# SPDX-License-Identifier: Apache-2.0
"""Kernels chosen by measuring: the table of what was measured, and how a model's layers are measured."""

from edgekit.tuning.table import Layer, Table

__all__ = ["Layer", "Table"]
