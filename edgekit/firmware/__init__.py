# SPDX-License-Identifier: Apache-2.0
"""Programs for microcontrollers: linked without an operating system, run on emulated boards."""
