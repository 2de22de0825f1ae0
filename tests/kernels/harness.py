# SPDX-License-Identifier: Apache-2.0
"""Runs single kernels through cffi, with guard pages and canaries around every buffer."""

from __future__ import annotations

import faulthandler
import hashlib
import os
import pickle
import re
import shutil
import signal
import subprocess
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import cffi
import numpy as np

from edgekit import kernel_sets as sets
from edgekit.building import targets
from edgekit.format.packing import encode_paired
from edgekit.runtime.header import declarations

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
CFLAGS = ["-std=c11", "-O2", "-ffp-contract=off", "-fPIC", "-Wall", "-Wextra"]
ARCH = targets.host_arch()
SETS = targets.kernel_sets(ROOT)
CANARY = 256
"""Bytes watched on the side of a buffer that has no guard page."""

ffi = cffi.FFI()
ffi.cdef(declarations((CSRC / "kernels" / "kernel.h").read_text()))
ffi.cdef(
    "void *mmap(void *, size_t, int, int, int, long); int mprotect(void *, size_t, int); int munmap(void *, size_t);"
)
libc = ffi.dlopen(None)


def first_seed() -> int:
    """The number of the first case: EDGEKIT_SEED, or a fresh one."""
    return int(os.environ.get("EDGEKIT_SEED", "0")) or int(np.random.default_rng().integers(1 << 40))


@cache
def kernel_sets() -> dict[int, str]:
    """EK_KERNELS_x bits of the public header, and their lower-case names."""
    text = (CSRC / "include" / "edgekit" / "edgekit.h").read_text()
    found = re.findall(r"#define EK_KERNELS_(\w+)\s+(0x[0-9a-f]+)u", text)
    return {int(bit, 16): name.lower() for name, bit in found}


@cache
def processor_flags() -> frozenset[str]:
    """Flags of /proc/cpuinfo; empty where there is none."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    match = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.M)
    return frozenset(match.group(1).split()) if match else frozenset()


def set_here(name: str) -> dict[str, Any]:
    """Files, flags and processor flags of a kernel set on this architecture; empty where there is none."""
    return SETS[name].get(ARCH, SETS[name].get("any", {}))


def kernel_sources(root: Path = CSRC) -> list[Path]:
    """Every C file of the kernels that this processor's compiler can build."""
    files = [source for name in SETS if set_here(name) for source in sorted((root / "kernels").glob(set_here(name)["files"]))]
    return [root / "kernels" / "kernel_list.c", *files]


def flags_of(source: Path) -> list[str]:
    """What one source is compiled with: the flags of its set; the names of all sets for their list."""
    folder = source.parent if source.stem == "kernel_list" else source.parents[1]
    here = {name: set_here(name) for name in SETS if set_here(name)}
    if source.stem == "kernel_list":
        return [f"-DEK_WITH_{name.upper()}" for name, entry in here.items() if any(folder.glob(entry["files"]))]
    return next(entry.get("flags", []) for entry in here.values() if source in folder.glob(entry["files"]))


def compile_sources(sources: list[Path], output: Path, extra: list[str] | None = None) -> None:
    """Builds a shared library from kernel sources, each with the flags of its set."""
    compiler = os.environ.get("CC", "gcc")
    output.with_suffix("").mkdir(parents=True)

    def build(source: Path) -> str:
        obj = output.with_suffix("") / (source.parent.name + "_" + source.stem + ".o")
        command = [compiler, *CFLAGS, *flags_of(source), *(extra or []), "-c", str(source), "-o", str(obj)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
        return str(obj)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(build, sources))
    subprocess.run([compiler, "-shared", *objects, "-o", str(output)], check=True)
    shutil.rmtree(output.with_suffix(""))


def build_library(folder: Path) -> Path:
    """The library of all kernels, or the one that EDGEKIT_KERNEL_LIBRARY names."""
    if given := os.environ.get("EDGEKIT_KERNEL_LIBRARY"):
        return Path(given)
    files = [*sorted((CSRC / "kernels").rglob("*.*")), CSRC / "include" / "edgekit" / "edgekit.h"]
    digest = hashlib.sha256(b"".join(f.read_bytes() for f in files if f.is_file())).hexdigest()[:16]
    library = folder / f"kernels-{digest}.so"
    if not library.exists():
        compile_sources(kernel_sources(), library)
    return library


@dataclass(frozen=True)
class Kernel:
    """One line of kernels.def, callable."""

    name: str
    kind: str
    set: str
    run: Any
    supports: Any
    scratch: Any
    tile_n: int
    tile_k: int
    x_offset: int

    def __str__(self) -> str:
        return self.name


def load_kernels(library: Path) -> list[Kernel]:
    """All kernels of `library`, in the order of the list."""
    lib = ffi.dlopen(str(library))
    count = ffi.new("size_t *")
    table = lib.ek_kernel_list(count)
    kinds = {v: k.removeprefix("EK_KIND_").lower() for k, v in ffi.typeof("ek_kernel_kind").relements.items()}
    result = []
    for i in range(count[0]):
        k = table[i]
        optional = [f if f != ffi.NULL else None for f in (k.supports, k.scratch)]
        name = ffi.string(k.name).decode()
        kernel = Kernel(name, kinds[k.kind], kernel_sets()[k.set], k.run, *optional, k.tile_n, k.tile_k, k.x_offset)
        result.append(kernel)
    _ALIVE.append(lib)
    return result


_ALIVE: list[Any] = []


def listed_kernels() -> list[tuple[str, str, str]]:
    """(name, kind, set) of kernels.def, read without building anything: for test ids."""
    return [(kernel.name, kernel.kind, kernel.set) for kernel in sets.listed_kernels()]


def scalar_of(kind: str, kernels: list[Kernel]) -> Kernel:
    """The scalar kernel of a kind."""
    return next(k for k in kernels if k.kind == kind and k.set == "scalar")


def why_not_here(kset: str) -> str | None:
    """None if kernel set `kset` runs on this processor, else the reason."""
    here = set_here(kset)
    if not here:
        return f"{ARCH} has no {kset}"
    missing = set(here.get("cpuinfo", [])) - processor_flags()
    return f"the processor lacks {', '.join(sorted(missing))}" if missing else None


class Slot:
    """A region between two guard pages in which one buffer at a time is placed."""

    PAGE = 4096

    def __init__(self, size: int = 1 << 26) -> None:
        self.size = size
        base = libc.mmap(ffi.NULL, size + 2 * self.PAGE, 0, 0x22, -1, 0)
        assert int(ffi.cast("intptr_t", base)) != -1
        self.start = int(ffi.cast("intptr_t", base)) + self.PAGE
        assert libc.mprotect(ffi.cast("void *", self.start), size, 3) == 0
        self.bytes = np.frombuffer(ffi.buffer(ffi.cast("char *", self.start), size), np.uint8)
        self.at = self.end = 0

    def place(self, data: np.ndarray, at_end: bool, align: int) -> Any:
        """Copies `data` against the guard page behind (`at_end`) or before it, canaries elsewhere."""
        raw = data.reshape(-1).view(np.uint8)
        assert raw.size + 2 * CANARY + align <= self.size, "raise Slot's size"
        self.at = (self.size - raw.size) // align * align if at_end else 0
        self.end = self.at + raw.size
        self.bytes[self.at : self.end] = raw
        self.bytes[max(self.at - CANARY, 0) : self.at] = 0xA5
        self.bytes[self.end : self.end + CANARY] = 0x5A
        return ffi.cast("void *", self.start + self.at)

    def content(self, dtype: Any = np.uint8) -> np.ndarray:
        """A copy of what the buffer holds now."""
        return self.bytes[self.at : self.end].copy().view(dtype)

    def intact(self) -> bool:
        """Whether no byte beside the buffer has changed."""
        before = self.bytes[max(self.at - CANARY, 0) : self.at]
        behind = self.bytes[self.end : self.end + CANARY]
        return bool((before == 0xA5).all() and (behind == 0x5A).all())


@dataclass
class Weights:
    """Canonical weights of a convolution: int8[groups][N][K]."""

    matrix: np.ndarray

    def fields(self, tile_n: int, tile_k: int) -> dict[str, int]:
        """The values of ek_weights."""
        return {"tile_n": tile_n, "tile_k": tile_k, "pairs_fit": int(self.matrix.min(initial=0) > -128)}

    def fit(self, tile_k: int) -> bool:
        """Whether they can be packed for a kernel: PAIRED is not for all."""
        return tile_k >= 0 or (len(self.matrix) == 1 and encode_paired(self.matrix[0]) is not None)

    def packed(self, tile_n: int, tile_k: int) -> np.ndarray:
        """As the file stores them for one packing; DENSE for zero tiles."""
        if tile_n == 0:
            return self.matrix.reshape(-1)
        if tile_k < 0:
            pairs = encode_paired(self.matrix[0])
            assert pairs is not None
            return np.frombuffer(pairs, np.int8)
        groups, n, k = self.matrix.shape
        padded = np.zeros((groups, -(-n // tile_n) * tile_n, -(-k // tile_k) * tile_k), np.int8)
        padded[:, :n, :k] = self.matrix
        tiles = padded.reshape(groups, padded.shape[1] // tile_n, tile_n, padded.shape[2] // tile_k, tile_k)
        return np.ascontiguousarray(tiles.transpose(0, 1, 3, 2, 4)).reshape(-1)


@dataclass
class Case:
    """One call of a kernel, independent of the kernel set.

    Attributes:
        struct: name of the parameter struct; `fields` its values (nested dicts for nested structs).
        arrays: values of its pointer members.
        inputs: flat arrays; `output` is the flat output as it is before the call.
        range: row, row_end, col, col_end, ch, ch_end.
        written: indexes or mask of the elements of `output` that the call writes, for statistics.
        in_place: the input whose memory the output takes, or None.
        placement: a random word; its bits choose the side of the guard page for each buffer.
    """

    struct: str
    fields: dict[str, Any]
    inputs: list[np.ndarray]
    output: np.ndarray
    range: tuple[int, int, int, int, int, int]
    values: int
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    weights: Weights | None = None
    in_place: int | None = None
    placement: int = 0

    def arrays_for(self, x_offset: int) -> dict[str, np.ndarray]:
        """The arrays for a kernel that adds `x_offset` to the activations."""
        if x_offset == 0 or self.weights is None:
            return self.arrays
        sums = self.weights.matrix.sum(axis=2, dtype=np.int64).reshape(-1)
        start = (self.arrays["start"] - x_offset * sums).astype(np.int32)  # wraps as the kernels do
        return self.arrays | {"start": start}

    def describe(self) -> str:
        """Enough to see what the case is."""
        return f"{self.struct} {self.fields} range {self.range} in_place {self.in_place}"


class Machine:
    """Places cases in guarded memory and calls kernels on them."""

    def __init__(self) -> None:
        self.slots: dict[str, Slot] = {}

    def _place(self, name: str, data: np.ndarray, bit: int, align: int = 0) -> Any:
        if name not in self.slots:
            self.slots[name] = Slot()
        return self.slots[name].place(data, bool(bit & 1), align or data.itemsize)

    def params(self, case: Case, tile: tuple[int, int], x_offset: int = 0) -> Any:
        """The case's parameter struct with weights packed for `tile`, for a kernel with `x_offset`."""
        params = ffi.new(f"ek_{case.struct}_params *", case.fields)
        for i, (name, array) in enumerate(case.arrays_for(x_offset).items()):
            pointer = self._place(name, array, case.placement >> (4 + i))
            setattr(params, name, ffi.cast(ffi.typeof(getattr(params, name)), pointer))
        if case.weights is not None:
            data = case.weights.packed(*tile)
            params.weights.data = ffi.cast("int8_t *", self._place("weights", data, case.placement >> 3))
            for name, value in case.weights.fields(*tile).items():
                setattr(params.weights, name, value)
        return params

    def run(self, kernel: Kernel, case: Case, tile: tuple[int, int] | None = None) -> np.ndarray | None:
        """The whole output buffer after the call; None if the kernel does not support the case.

        Raises:
            AssertionError: a byte outside the output or the scratch, or an input, has changed.
        """
        if case.weights is not None and not case.weights.fit(kernel.tile_k if tile is None else tile[1]):
            return None
        params = self.params(case, (kernel.tile_n, kernel.tile_k) if tile is None else tile, kernel.x_offset)
        if kernel.supports and not kernel.supports(params):
            return None
        pointers = [self._place(f"in{i}", x, case.placement >> i) for i, x in enumerate(case.inputs)]
        if case.in_place is None:
            out, out_name = self._place("out", case.output, case.placement >> 2), "out"
        else:
            out, out_name = pointers[case.in_place], f"in{case.in_place}"
        size = kernel.scratch(params) if kernel.scratch else 0
        noise = np.full(size, 0x80 | case.placement & 0x7F, np.uint8)
        scratch = self._place("scratch", noise, case.placement >> 8, align=64)
        kernel.run(
            params,
            ffi.new("void *[]", pointers),
            out,
            scratch if kernel.scratch else ffi.NULL,
            ffi.new("ek_range *", case.range),
        )
        for name, slot in self.slots.items():
            assert slot.intact(), f"{kernel}: wrote beside buffer {name}: {case.describe()}"
        for i, x in enumerate(case.inputs):
            if i != case.in_place:
                same = np.array_equal(self.slots[f"in{i}"].content(), x.reshape(-1).view(np.uint8))
                assert same, f"{kernel}: changed input {i}: {case.describe()}"
        return self.slots[out_name].content(case.output.dtype)


def compare(kernel: Kernel, case: Case, got: np.ndarray, want: np.ndarray) -> None:
    """Equality of the whole buffers, bit for bit."""
    bad = np.flatnonzero(got.view(np.uint8) != want.view(np.uint8))
    if bad.size:
        i = int(bad[0]) // got.itemsize
        raise AssertionError(
            f"{kernel}: {bad.size} of {case.values} differ; at {i}: {got[i]} instead of {want[i]}: {case.describe()}"
        )


def isolated(work: Callable[[Callable[[str], None]], Any]) -> Any:
    """Runs `work(note)` in a forked child, so that a crash is a failure that names the last `note`.

    Returns what `work` returns; raises AssertionError with the child's traceback or signal.
    """
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        faulthandler.disable()
        with os.fdopen(write_end, "wb") as pipe:
            _child(work, pipe)
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        last, outcome = _messages(pipe)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        raise AssertionError(f"{signal.Signals(os.WTERMSIG(status)).name} in {last}")
    kind, value = outcome
    if kind == "error":
        raise AssertionError(f"{last}\n{value}")
    return value


def _child(work: Callable[[Callable[[str], None]], Any], pipe: Any) -> None:
    def send(kind: str, value: Any) -> None:
        pickle.dump((kind, value), pipe)
        pipe.flush()

    try:
        send("result", work(lambda text: send("note", text)))
    except BaseException as error:  # whatever it is, the parent reports it
        text = str(error) if isinstance(error, AssertionError) else traceback.format_exc()
        send("error", text)


def _messages(pipe: Any) -> tuple[str, tuple[str, Any]]:
    last, outcome = "the start", ("error", "the child ended without a result")
    while True:
        try:
            kind, value = pickle.load(pipe)
        except EOFError:
            return last, outcome
        if kind == "note":
            last = value
        else:
            outcome = (kind, value)
