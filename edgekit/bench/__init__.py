# SPDX-License-Identifier: Apache-2.0
"""Latency of a model here, peers interleaved in the same run."""

from edgekit.bench.measure import Timing, bench

__all__ = ["Timing", "bench"]
