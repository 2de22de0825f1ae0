# SPDX-License-Identifier: Apache-2.0
"""Rewrites the imported float graph into what the quantizer lowers."""

from edgekit.passes.pipeline import optimize

__all__ = ["optimize"]
