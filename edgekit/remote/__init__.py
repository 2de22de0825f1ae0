# SPDX-License-Identifier: Apache-2.0
"""Boards that are reached over a network: a runtime built here is copied there, runs there, and leaves nothing."""

from edgekit.remote.board import Board

__all__ = ["Board"]
