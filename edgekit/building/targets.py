# SPDX-License-Identifier: Apache-2.0
"""The descriptions in targets/ and csrc/kernels/sets.toml, and the compilers that they name.

SConstruct loads this file on its own, also while the package is being built, so it imports the standard
library alone.

A description says:

    description   one line for people
    arch          `x86_64`, `aarch64`, `arm`, `riscv64`, `cortexm`; `host` for this machine's
    system        `linux`, `macos`, `windows`, or `none` without operating system; `host` for this machine's
    cpu           the processor, as its maker spells it
    kernels       kernel sets of the build; the fastest that the processor has is chosen at run time
    packing       the set whose order of weights `convert --target` writes; the last of `kernels` without it
    toolchains    in order of preference: `name`, then `prefix` of a GCC, or `target` of zig, or `cc`, `cxx`,
                  `ar`; `flags` of its own, `packages` of Debian that bring it
    emulator      the command before a program of the target
    verify        kernel set -> processor of the emulator on which `edgekit verify` runs it; one that has
                  nothing newer, where the emulator knows such a one
    machines      what `uname -m` says on boards that get this target's runtime
    memory        without operating system: `flash` and `ram`, each with `origin` and `bytes`
"""

from __future__ import annotations

import importlib.util
import platform
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ZIG_INSTALL = "pip install 'edgekit[cross]'"
_MACHINES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}
_REQUIRED = {"description": str, "arch": str, "system": str, "kernels": list, "toolchains": list}
_OPTIONAL = {"cpu": str, "packing": str, "emulator": list, "verify": dict, "machines": list, "memory": dict}
_TOOLCHAIN = {
    "name": str, "prefix": str, "target": str, "program_target": str, "cc": str, "cxx": str, "ar": str,
    "flags": list, "packages": list,
}  # fmt: skip
_MEMORY = {"origin": int, "bytes": int}


class TargetError(ValueError):
    """A name that is unknown, or a description that is wrong; the message says which."""


def emulator_install(program: str) -> str:
    """How to get an emulator."""
    return f"apt install {'qemu-system-arm' if program == 'qemu-system-arm' else 'qemu-user'}"


def host_arch() -> str:
    """This machine's architecture, as `arch` spells it."""
    machine = platform.machine().lower()
    return _MACHINES.get(machine, machine)


@dataclass(frozen=True)
class Toolchain:
    """A C compiler for one target.

    Attributes:
        family: `gcc` for GCC and what takes its options, `zig`.
        cc, cxx, ar: commands; zig's are `python -m ziglang ...`.
        program_cc: links programs that need no library of the system they run on.
        flags: baseline of the target, in this compiler's spelling.
        install: how to get it; empty where that is up to the user.
    """

    name: str
    family: str
    cc: tuple[str, ...]
    cxx: tuple[str, ...]
    ar: tuple[str, ...]
    program_cc: tuple[str, ...]
    flags: tuple[str, ...]
    install: str

    def found(self, path: str | None = None) -> bool:
        """Whether it is installed; `path` stands for PATH."""
        if self.family == "zig":
            return importlib.util.find_spec("ziglang") is not None
        return shutil.which(self.cc[0], path=path) is not None


@dataclass(frozen=True)
class Memory:
    """A region of a microcontroller's address space; `bytes` of it from `origin` on."""

    origin: int
    bytes: int


@dataclass(frozen=True)
class Target:
    """One description; `kernels` holds the sets that have sources. Other fields: see the file's docstring."""

    name: str
    description: str
    arch: str
    system: str
    cpu: str
    kernels: tuple[str, ...]
    packing: str
    toolchains: tuple[Toolchain, ...]
    emulator: tuple[str, ...]
    verify: dict[str, str] = field(default_factory=dict)
    machines: tuple[str, ...] = ()
    memory: dict[str, Memory] = field(default_factory=dict)

    def toolchain(self, name: str | None = None, path: str | None = None) -> Toolchain:
        """The toolchain of that name, or the first that is installed.

        Raises:
            TargetError: it is unknown, or not installed.
        """
        if name is None:
            for toolchain in self.toolchains:
                if toolchain.found(path):
                    return toolchain
            raise TargetError(f"target {self.name}: no compiler is installed: {self.install()}")
        known = {toolchain.name: toolchain for toolchain in self.toolchains}
        if name not in known:
            raise TargetError(f"target {self.name} has no toolchain {name}; use one of {', '.join(known)}")
        if not known[name].found(path):
            raise TargetError(f"target {self.name}: toolchain {name} is not installed: {known[name].install}")
        return known[name]

    def install(self) -> str:
        """How to get a compiler for it: one of these commands."""
        return " or ".join(dict.fromkeys(t.install for t in self.toolchains if t.install))


def target_names(root: Path) -> list[str]:
    """All targets of the checkout or installation at `root`."""
    return sorted(path.stem for path in (root / "targets").glob("*.toml"))


def read_target(root: Path, name: str) -> Target:
    """The target of that name.

    Raises:
        TargetError: there is none, or its file is wrong.
    """
    if name not in (names := target_names(root)):
        raise TargetError(f"unknown target {name}; known are {', '.join(names)}")
    where = f"targets/{name}.toml"
    try:
        entry = tomllib.loads((root / where).read_text(encoding="utf-8"))
    except ValueError as error:  # no UTF-8, or no TOML
        raise TargetError(f"{where}: {error}") from error
    _check(entry, where)
    arch = host_arch() if entry["arch"] == "host" else entry["arch"]
    try:
        kernels = _kernels(root, arch, entry["kernels"], skip_foreign=entry["arch"] == "host")
    except TargetError as error:
        raise TargetError(f"{where}: {error}") from error
    packing = entry.get("packing", kernels[-1])
    if packing not in entry["kernels"] and packing not in kernels:
        raise TargetError(f"{where}: packing {packing} is not one of its kernels")
    return Target(
        name=name,
        description=entry["description"],
        arch=arch,
        system=entry["system"],
        cpu=entry.get("cpu", ""),
        kernels=kernels,
        packing=packing,
        toolchains=tuple(_toolchain(tools, entry["system"]) for tools in entry["toolchains"]),
        emulator=tuple(entry.get("emulator", ())),
        verify={kernel_set: cpu for kernel_set, cpu in entry.get("verify", {}).items() if kernel_set in kernels},
        machines=tuple(entry.get("machines", ())),
        memory={region: Memory(**fields) for region, fields in entry.get("memory", {}).items()},
    )


def read_targets(root: Path) -> list[Target]:
    """All targets, by name."""
    return [read_target(root, name) for name in target_names(root)]


def kernel_sets(root: Path) -> dict[str, dict[str, Any]]:
    """csrc/kernels/sets.toml."""
    text = (root / "csrc" / "kernels" / "sets.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def kernel_files(root: Path, name: str, arch: str, family: str = "gcc") -> tuple[list[Path], list[str]]:
    """Sources of a kernel set on an architecture and the flags that they alone are compiled with; no sources
    where it has none there."""
    entry = kernel_sets(root)[name]
    here = entry.get(arch, entry.get("any"))
    if here is None:
        return [], []
    sources = sorted((root / "csrc" / "kernels").glob(here["files"]))
    flags = here.get("flags", [])
    return sources, here.get("zig", flags) if family == "zig" else flags


def _kernels(root: Path, arch: str, names: list[str], skip_foreign: bool) -> tuple[str, ...]:
    """Those of a target's sets that have sources.

    Raises:
        TargetError: a set is unknown, not of this architecture (unless those are skipped), or without the
            one that it falls back to.
    """
    known = kernel_sets(root)
    for name in names:
        if name not in known:
            raise TargetError(f"unknown kernel set {name}; known are {', '.join(known)}")
        if not skip_foreign and not known[name].keys() & {arch, "any"}:
            raise TargetError(f"kernel set {name} does not exist on {arch}")
        if known[name].get("after", name) not in names:
            raise TargetError(f"{name} needs {known[name]['after']}")
    return tuple(name for name in names if kernel_files(root, name, arch)[0])


def _check(entry: dict[str, Any], where: str) -> None:
    """Names and types of a description's fields.

    Raises:
        TargetError: one is missing, unknown or of another type.
    """
    _check_table(entry, _REQUIRED | _OPTIONAL, where, required=_REQUIRED)
    for key in ("kernels", "toolchains"):
        if not entry[key]:
            raise TargetError(f"{where}: {key} must not be empty")
    for tools in entry["toolchains"]:
        _check_table(tools, _TOOLCHAIN, f"{where}: toolchains", required=("name",))
        if not {"prefix", "target"} & tools.keys() and not {"cc", "cxx", "ar"} <= tools.keys():
            raise TargetError(f"{where}: toolchain {tools['name']} needs prefix, target, or cc, cxx and ar")
    for region, fields in entry.get("memory", {}).items():
        _check_table(fields, _MEMORY, f"{where}: memory.{region}", required=_MEMORY)


def _check_table(table: Any, types: Mapping[str, type], where: str, required: Iterable[str]) -> None:
    """A table of TOML that has the fields `required`, and others only from `types`."""
    if not isinstance(table, dict):
        raise TargetError(f"{where} must be a table, not {table!r}")
    for key in required:
        if key not in table:
            raise TargetError(f"{where}: needs {key} of type {types[key].__name__}")
    for key, value in table.items():
        if key not in types:
            raise TargetError(f"{where}: unknown field {key}; known are {', '.join(types)}")
        if not isinstance(value, types[key]):
            raise TargetError(f"{where}: {key} must be of type {types[key].__name__}")
        if isinstance(value, list) and key != "toolchains" and not all(isinstance(item, str) for item in value):
            raise TargetError(f"{where}: {key} must be a list of strings")


def _toolchain(entry: dict[str, Any], system: str) -> Toolchain:
    """One of a description's toolchains, which `_check` has passed."""
    flags = tuple(entry.get("flags", ()))
    cc: tuple[str, ...]
    cxx: tuple[str, ...]
    ar: tuple[str, ...]
    program: tuple[str, ...]
    if "target" in entry:
        zig = (sys.executable, "-m", "ziglang")
        cc = (*zig, "cc", "-target", entry["target"])
        cxx = (*zig, "c++", "-target", entry["target"])
        # zig links glibc only as a shared library, which a program would then need where it runs.
        program = (*zig, "cc", "-target", entry.get("program_target", entry["target"]))
        return Toolchain(entry["name"], "zig", cc, cxx, (*zig, "ar"), program, flags, ZIG_INSTALL)
    install = f"apt install {' '.join(entry['packages'])}" if "packages" in entry else ""
    if "prefix" in entry:
        cc, cxx, ar = ((entry["prefix"] + tool,) for tool in ("gcc", "g++", "ar"))
    else:
        cc, cxx, ar = ((entry[tool],) for tool in ("cc", "cxx", "ar"))
    program = (*cc, "-static") if system == "linux" else cc
    return Toolchain(entry["name"], "gcc", cc, cxx, ar, program, flags, install)
