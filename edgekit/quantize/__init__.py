# SPDX-License-Identifier: Apache-2.0
"""Lowers the float graph to the integer program: scales, weights, biases, tables."""

from edgekit.quantize.pipeline import LOWERINGS, Options, quantize, quantize_model
from edgekit.quantize.ports import input_specs

__all__ = ["LOWERINGS", "Options", "input_specs", "quantize", "quantize_model"]
