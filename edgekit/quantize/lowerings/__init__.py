# SPDX-License-Identifier: Apache-2.0
"""The lowerings, a file per family; importing this package fills `lowering.LOWERINGS`."""

from edgekit.quantize.lowerings import accumulate, elementwise, moves, norm, pool, tables

__all__ = ["accumulate", "elementwise", "moves", "norm", "pool", "tables"]
