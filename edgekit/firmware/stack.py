# SPDX-License-Identifier: Apache-2.0
"""The most stack that a linked program can use: the longest path through its calls.

GCC tells the frame of every C function and where it calls through a pointer (`-fcallgraph-info=su`). The disassembly
tells every other call, and the frames of assembly and of the compiler's library. What a pointer can point to follows
from the source line of the call; a line that is not known here is an error, as are recursion and frames whose size is
not constant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.errors import EdgekitError
from edgekit.firmware import toolchain

START = "ek_start"
CALLS_BY_POINTER = {
    r"->run\($": r"ek_({kernels})",
    r"->supports\($": r"ek_({kernels})_supports",
    r"->pays\($": r"ek_({kernels})_pays",
    r"->scratch\($": r"ek_({kernels})_scratch",
    r"->check\($": r"ek_check_({operators})",
    r"->prepare\($": r"ek_prepare_({operators})",
    r"\bchecks\[\w+\]\($": r"check_\w+",
    r"\.on_op\($": r"selftest_observe",
}
"""What stands in front of the arguments, and the functions that can be meant."""

_NODE = re.compile(r'^node: \{ title: "([^"]+)" label: "[^"]*\\n(\d+) bytes \(([\w,]+)\)', re.M)
_POINTER = re.compile(r'^edge: \{ sourcename: "([^"]+)" targetname: "__indirect_call" label: "([^"]+):(\d+):(\d+)"', re.M)
_FUNCTION = re.compile(r"^[0-9a-f]+ <([^>]+)>:$")
_BRANCH = re.compile(r"\t(bl|blx|(?:b|cbn?z)(?:eq|ne|cs|cc|mi|pl|vs|vc|hi|ls|ge|lt|gt|le)?)(?:\.[nw])?\t.*<([^+>]+)")
_PUSH = re.compile(r"\t(?:push|stmdb)(?:\.w)?\t(?:sp!, )?\{([^}]*)\}")
_VPUSH = re.compile(r"\t(?:vpush|vstmdb)\t(?:sp!, )?\{([^}]*)\}")
_LOWER = re.compile(r"\tsubw?(?:\.w)?\tsp, (?:sp, )?#(\d+)|\[sp, #-(\d+)\]!")


@dataclass
class _Function:
    """Of one or more functions of a name: the largest frame, all calls."""

    frame: int = 0
    calls: set[str] = field(default_factory=set)


def stack_bound(gcc: str, folder: Path, image: Path, kernels: Iterable[str], operators: Iterable[str]) -> int:
    """Bytes that `image`, linked in `folder` as a whole program (`-flto`), can have on the stack from its start on.

    Args:
        gcc: the compiler.
        kernels: of the model's steps; `operators` their names in operators.def.

    Raises:
        EdgekitError: there is no such bound, or not for this analysis.
    """
    functions = _disassembled(toolchain.run([gcc.removesuffix("gcc") + "objdump", "-d", "--no-show-raw-insn", image]))
    names = {"kernels": "|".join(kernels), "operators": "|".join(operators)}
    meant = {before: targets.format(**names) for before, targets in CALLS_BY_POINTER.items()}
    compiled: dict[str, int] = {}
    for path in sorted((folder / "build").glob(f"{image.name}.*.ci")):
        text = path.read_text(encoding="utf-8")
        for title, frame, kind in _NODE.findall(text):
            if title.rpartition(":")[2] in functions and kind != "static":
                raise EdgekitError(f"{path.name}: the frame of {title} has no constant size")
            symbol = title.rpartition(":")[2]
            compiled[symbol] = max(compiled.get(symbol, 0), int(frame))
        for title, source, line, column in _POINTER.findall(text):
            symbol = title.rpartition(":")[2]
            if symbol in functions:
                functions[symbol].calls |= _targets(folder / source, int(line), int(column), meant, functions)
    if not compiled:
        raise EdgekitError(f"{gcc} wrote no call graph of {image.name}; that takes GCC 11 or newer")
    for symbol, frame in compiled.items():
        if symbol in functions:
            functions[symbol].frame = frame
    return _depth(START, functions, ())


def _disassembled(text: str) -> dict[str, _Function]:
    """Frames and calls of every function. What it pushes anywhere is its frame."""
    functions: dict[str, _Function] = {}
    name = ""
    for line in text.splitlines():
        if match := _FUNCTION.match(line):
            name = match[1]
            functions.setdefault(name, _Function())
        elif match := _BRANCH.search(line):
            if match[2] != name or match[1] in ("bl", "blx"):
                functions[name].calls.add(match[2])
        elif name:
            functions[name].frame += _pushed(line)
    return functions


def _pushed(line: str) -> int:
    """Bytes by which an instruction lowers the stack pointer."""
    if match := _PUSH.search(line):
        return 4 * _registers(match[1]) if "sp!" in line or "\tpush" in line else 0
    if match := _VPUSH.search(line):
        return (8 if "d" in match[1] else 4) * _registers(match[1]) if "sp!" in line or "\tvpush" in line else 0
    if match := _LOWER.search(line):
        return int(match[1] or match[2])
    return 0


def _registers(text: str) -> int:
    """How many a list has, such as `r4, r5, r6, lr` or `d8-d15`."""
    count = 0
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        count += int(last[1:]) - int(first[1:]) + 1 if last else 1
    return count


def _targets(
    source: Path, line: int, column: int, meant: Mapping[str, str], functions: Mapping[str, _Function]
) -> set[str]:
    """What a call through a pointer can reach."""
    code = source.read_text(encoding="utf-8").splitlines()[line - 1][column - 1 :]
    expression = code[: code.index("(", code.index("->") if "->" in code else 0) + 1]
    for before, targets in meant.items():
        if re.search(before, expression):
            return {name for name in functions if re.fullmatch(rf"(?:{targets})(?:\.\w+\.\d+)*", name)}
    raise EdgekitError(f"{source.name}:{line}: what {code.strip()} calls is not known to edgekit.firmware.stack")


def _depth(name: str, functions: Mapping[str, _Function], above: tuple[str, ...]) -> int:
    if name in above:
        raise EdgekitError(f"no bound for the stack: {' calls '.join((*above[above.index(name) :], name))}")
    function = functions[name]
    return function.frame + max((_depth(call, functions, (*above, name)) for call in sorted(function.calls)), default=0)
