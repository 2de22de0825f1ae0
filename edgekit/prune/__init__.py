# SPDX-License-Identifier: Apache-2.0
"""Makes models smaller: ONNX in, ONNX out."""

from edgekit.prune.statistics import Statistics, statistics
from edgekit.prune.structured import prune_structured
from edgekit.prune.unstructured import prune_sparsity

__all__ = ["Statistics", "prune_sparsity", "prune_structured", "statistics"]
