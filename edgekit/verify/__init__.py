# SPDX-License-Identifier: Apache-2.0
"""Compares all backends bit by bit, and certifies the result."""

from edgekit.verify.certificate import certificate, check_certificate, read_certificate, write_certificate
from edgekit.verify.report import BackendResult, Difference, Report
from edgekit.verify.run import verify

__all__ = [
    "BackendResult",
    "Difference",
    "Report",
    "certificate",
    "check_certificate",
    "read_certificate",
    "verify",
    "write_certificate",
]
