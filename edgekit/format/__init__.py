# SPDX-License-Identifier: Apache-2.0
"""The `.ekm` file: its schema and rules, writer and reader."""
