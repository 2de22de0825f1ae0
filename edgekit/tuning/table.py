# SPDX-License-Identifier: Apache-2.0
"""What `edgekit tune` found, as a file.

    {
      "edgekit_tuning": 1,                     version of this layout
      "edgekit": "0.1.0",                      version of the runtime that was measured
      "processor": "AMD EPYC 9R14",
      "kernels": ["scalar", "sse41", "avx2"],  kernel sets that were allowed
      "layers": [
        {
          "layer": "conv2d 1x8x8x64 64x3x3x64 -> 1x8x8x64 pads 1x1x1x1",
          "default": "winograd_avx2",          what the runtime takes by itself
          "kernel": "conv2d_avx2",             what to take in its place; the same where nothing was faster
          "us": {"winograd_avx2": 41.5, "conv2d_avx2": 36.2}
        }
      ]
    }

Layers of the same shape are one entry, in whatever network they are.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from edgekit._version import __version__
from edgekit.atomic import write_atomically
from edgekit.errors import InputError
from edgekit.files import read_file
from edgekit.kernel_sets import kernel_sets, listed_kernels
from edgekit.program import Choice, Op, Program

VERSION = 1
MAX_BYTES = 16 * 2**20
KIND = "table of `edgekit tune`"

_GEOMETRY: dict[str, set[int]] = {
    "kernel": set(), "strides": {1}, "dilations": {1}, "pads": {0}, "groups": {1}, "count_include_pad": {0},
    "perm": set(), "axis": set(), "starts": {0}, "steps": {1}, "before": {0},
}  # fmt: skip
"""Fields of operators that say, beside the shapes, how much there is to compute and which kernels can; and the usual
value, which a name leaves out."""


def layer_name(program: Program, op: Op) -> str:
    """The operator without what only its values differ in: equal names take equally long on one processor.

        conv2d 1x8x8x64 64x3x3x64 -> 1x8x8x64 pads 1x1x1x1
    """
    shapes = ["x".join(map(str, program.tensors[name].shape)) or "1" for name in (*op.inputs, *op.outputs)]
    words = [op.opcode.name.lower(), *shapes[:-1], "->", shapes[-1]]
    for field, usual in _GEOMETRY.items():
        value = getattr(op, field, ())
        values = [int(v) for v in (value if isinstance(value, tuple) else (value,))]
        if values and set(values) != usual:
            words += [field, "x".join(map(str, values))]
    return " ".join(words)


@dataclass(frozen=True)
class Layer:
    """What was measured of the layers of one shape.

    Attributes:
        layer: as `layer_name` has it.
        default: the kernel that the runtime takes by itself.
        kernel: the one to take; `default` where no other was clearly faster.
        us: kernel -> median microseconds of all that compute the layer, those aside that were far slower.
    """

    layer: str
    default: str
    kernel: str
    us: dict[str, float]

    @property
    def tuned(self) -> bool:
        """Whether another kernel is to be taken."""
        return self.kernel != self.default


@dataclass(frozen=True)
class Table:
    """What was measured on one processor with one version of the runtime.

    Attributes:
        processor: its name.
        kernels: kernel sets that were allowed, slowest first.
    """

    processor: str
    kernels: tuple[str, ...]
    layers: tuple[Layer, ...]
    edgekit: str = __version__

    def choices(self, program: Program) -> list[Choice]:
        """For the operators of a program that are in the table and faster with another kernel."""
        tuned: dict[str, list[Layer]] = {}
        for layer in self.layers:
            if layer.tuned:
                tuned.setdefault(layer.layer, []).append(layer)
        return [
            Choice(number, layer.default, layer.kernel)
            for number, op in enumerate(program.ops)
            for layer in tuned.get(layer_name(program, op), ())
        ]

    def missing(self, program: Program) -> list[Op]:
        """The operators that are not in the table, and keep the kernels that the runtime takes."""
        known = {layer.layer for layer in self.layers}
        return [op for op in program.ops if layer_name(program, op) not in known]

    def merged(self, newer: Table) -> Table:
        """Both, of a layer in both what is newer.

        Raises:
            InputError: they are of different processors, versions or kernel sets.
        """
        for field in ("edgekit", "processor", "kernels"):
            mine, others = getattr(self, field), getattr(newer, field)
            if mine != others:
                what = {"edgekit": "version of edgekit", "kernels": "choice of kernel sets"}.get(field, field)
                raise InputError(f"holds another {what}: {_text(mine)}, not {_text(others)}")
        layers = {(layer.layer, layer.default): layer for layer in (*self.layers, *newer.layers)}
        return replace(newer, layers=tuple(layers.values()))

    def as_dict(self) -> dict[str, Any]:
        """The JSON object."""
        return {
            "edgekit_tuning": VERSION,
            "edgekit": self.edgekit,
            "processor": self.processor,
            "kernels": list(self.kernels),
            "layers": [asdict(layer) for layer in self.layers],
        }

    def write(self, path: str | os.PathLike[str]) -> None:
        """Raises:
        InputError: the file cannot be written.
        """
        write_atomically(path, (json.dumps(self.as_dict(), indent=2, ensure_ascii=False) + "\n").encode())

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Table:
        """
        Raises:
            InputError: the file cannot be read, is no such table, or one of another version of edgekit.
        """
        data = read_file(path, MAX_BYTES, KIND)
        try:
            found = json.loads(data)
        except (ValueError, RecursionError) as error:
            what = "not text" if isinstance(error, UnicodeDecodeError) else str(error).splitlines()[0]
            raise InputError(f"{path}: not a {KIND}: {what}") from error
        if not isinstance(found, dict) or "edgekit_tuning" not in found:
            raise InputError(f"{path}: not a {KIND}: has no edgekit_tuning")
        if found["edgekit_tuning"] != VERSION or found.get("edgekit") != __version__:
            of = found["edgekit_tuning"] if found["edgekit_tuning"] != VERSION else f"edgekit {found.get('edgekit')}"
            raise InputError(f"{path}: a table of version {of}, this is edgekit {__version__}: run `edgekit tune` again")
        try:
            return cls(_name(found["processor"]), tuple(_sets(found["kernels"])), tuple(_layers(found["layers"])))
        except KeyError as error:
            raise InputError(f"{path}: has no {error}; run `edgekit tune` again") from error
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}: {error}; run `edgekit tune` again") from error


def _text(value: str | Iterable[str]) -> str:
    return value if isinstance(value, str) else ", ".join(value)


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():  # lone surrogates are not printable
        raise ValueError(f"{value!r} should be a name")
    return value


def _sets(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) and name in kernel_sets() for name in value):
        raise ValueError(f"kernels {value!r} should be a list of kernel sets")
    return value


def _layers(value: Any) -> Iterable[Layer]:
    """Each entry, its kernels known and of one kind, its times positive."""
    kinds = {kernel.name: kernel.kind for kernel in listed_kernels()}
    if not isinstance(value, list):
        raise ValueError("layers should be a list")
    seen = set()
    for number, entry in enumerate(value):
        where = f"layer {number}"
        if not isinstance(entry, dict):
            raise ValueError(f"{where}: should be an object")
        layer = Layer(_name(entry["layer"]), _name(entry["default"]), _name(entry["kernel"]), entry["us"])
        if not isinstance(layer.us, dict) or not all(_is_time(time) for time in layer.us.values()):
            raise ValueError(f"{where}: us should be microseconds by kernel")
        if not {layer.default, layer.kernel} <= layer.us.keys():
            raise ValueError(f"{where}: us lacks {layer.default} or {layer.kernel}")
        if unknown := [name for name in layer.us if name not in kinds]:
            raise ValueError(f"{where}: no kernel is named {unknown[0]}")
        if len({kinds[name] for name in layer.us}) > 1:
            raise ValueError(f"{where}: kernels of different kinds")
        if (layer.layer, layer.default) in seen:
            raise ValueError(f"{where}: stands there twice")
        seen.add((layer.layer, layer.default))
        yield layer


def _is_time(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**63
