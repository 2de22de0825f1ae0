# SPDX-License-Identifier: Apache-2.0
"""Targets, their toolchains, and builds of the C runtime for them."""
