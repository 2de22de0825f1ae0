# SPDX-License-Identifier: Apache-2.0
"""The C runtime in Python: `model` for users, `capi` for the C interface as it is."""
