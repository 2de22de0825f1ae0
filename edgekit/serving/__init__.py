# SPDX-License-Identifier: Apache-2.0
"""The runtime in another process, emulator or machine, driven through two pipes."""

from edgekit.serving.client import Capabilities, Client, Prepared, Reply, Show, input_format
from edgekit.serving.pipes import Pipes

__all__ = ["Capabilities", "Client", "Pipes", "Prepared", "Reply", "Show", "input_format"]
