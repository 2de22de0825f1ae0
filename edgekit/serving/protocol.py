# SPDX-License-Identifier: Apache-2.0
"""Numbers of the protocol and of the runtime, as the C headers have them."""

from __future__ import annotations

from edgekit.runtime.header import numbers
from edgekit.sources import source_root

_CSRC = source_root() / "csrc"
_PROTOCOL = numbers((_CSRC / "serve" / "protocol.h").read_text(encoding="utf-8"))
_RUNTIME = numbers((_CSRC / "include" / "edgekit" / "edgekit.h").read_text(encoding="utf-8"))

VERSION = _PROTOCOL["EK_SERVE_VERSION"]
NO_TENSOR = _PROTOCOL["EK_SERVE_NO_TENSOR"]
MAX_RUNS = _PROTOCOL["EK_SERVE_MAX_RUNS"]

END, HELLO, MODEL, FILE, PREPARE, RUN, TIME = (
    _PROTOCOL[f"EK_SERVE_{name}"] for name in ("END", "HELLO", "MODEL", "FILE", "PREPARE", "RUN", "TIME")
)
SHOW_OUTPUTS, SHOW_DIGESTS, SHOW_VALUES, SHOW_TIMES = (
    _PROTOCOL[f"EK_SERVE_{name}"] for name in ("OUTPUTS", "DIGESTS", "VALUES", "TIMES")
)
FORMAT_FLOAT, FORMAT_RAW, FORMAT_INT8 = (_RUNTIME[f"EK_FORMAT_{name}"] for name in ("FLOAT", "RAW", "INT8"))

EXIT_REASONS = {
    _PROTOCOL["EK_SERVE_BROKEN_PIPE"]: "a pipe broke",
    _PROTOCOL["EK_SERVE_BAD_REQUEST"]: "bad request",
    _PROTOCOL["EK_SERVE_TOO_LARGE"]: "the model does not fit the board's memory",
}
"""Exit code of a serving program -> what it means."""

STATUS_NAMES = {value: name for name, value in _RUNTIME.items() if name.startswith("EK_ERROR_")}
"""ek_status -> its name."""
