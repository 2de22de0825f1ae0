# SPDX-License-Identifier: Apache-2.0
"""The integer arithmetic in NumPy: one function per operator that reads as its definition.

docs/ARITHMETIC.md says the same in prose; every kernel and the exported model are held to these bits.
"""

from edgekit.reference.executor import run

__all__ = ["run"]
