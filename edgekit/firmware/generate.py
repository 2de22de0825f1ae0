# SPDX-License-Identifier: Apache-2.0
"""Writes a firmware folder: the parts of the runtime that one model needs, the model, its self-test."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit._version import __version__
from edgekit.building.targets import Target
from edgekit.firmware import templates, toolchain
from edgekit.firmware.boards import linker_script
from edgekit.firmware.runtime import restrict_build, restrict_lists, runtime_sources, with_headers
from edgekit.format.schema import Dtype
from edgekit.kernel_sets import listed_kernels
from edgekit.program import Program, tensor_bytes
from edgekit.reference.executor import run
from edgekit.serving import Prepared, input_format
from edgekit.sources import source_root
from edgekit.verify.backends.base import Observation, Sample
from edgekit.verify.compare import Digests

_FORMATS = ("EK_FORMAT_FLOAT", "EK_FORMAT_RAW", "EK_FORMAT_INT8")
_SUPPORT = ("start.c", "semihosting.c")
_APPLICATION = "application.c"
_SELFTEST = ("main.c", "selftest.c", "sha256.c")
_SMALL_KERNELS = ("conv2d_paired_dsp", "depthwise_dsp", "average_pool_dsp")
"""Kernels whose inner loops are assembly: -Os for all of them adds about one percent to a network's instructions."""
_ALIGN = 64


@dataclass(frozen=True)
class Subject:
    """What becomes firmware.

    Attributes:
        data: the model file that `program` was read from.
        sample: input of the self-test; `about` says where it is from.
        prepared: what the runtime says of the model on the target.
    """

    name: str
    program: Program
    data: bytes
    sample: Sample
    about: str
    target: Target
    prepared: Prepared


def generate(subject: Subject, folder: Path, stack_bytes: int) -> None:
    """Fills `folder`, which is empty."""
    sources = _copy_runtime(subject, folder / "edgekit")
    write_text(folder / "model.h", _model_h(subject, stack_bytes))
    write_text(folder / "model.c", _model_c(subject))
    write_text(folder / "selftest_data.c", _selftest_data(subject))
    write_text(folder / "board.ld", linker_script(subject.target, stack_bytes))
    makefile = _makefile(subject.target, ["model.c", *_SUPPORT, *sources], ["selftest_data.c", *_SELFTEST])
    write_text(folder / "Makefile", makefile)


def write_text(path: Path, text: str) -> None:
    """Writes a file of a new folder, whose folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


# ---- Sources ---------------------------------------------------------------------------------------------------


def _copy_runtime(subject: Subject, folder: Path) -> list[str]:
    """Copies what the model needs and returns the C files to compile, relative to the firmware's folder."""
    csrc = source_root() / "csrc"
    sources = runtime_sources(subject.program, subject.prepared.kernels)
    support = [csrc / "firmware" / name for name in (*_SUPPORT, _APPLICATION, *_SELFTEST)]
    for path in with_headers([*sources, *support]):
        if path.parent.name == "firmware":
            write_text(folder.parent / path.name, path.read_text(encoding="utf-8").replace('"../core/', '"core/'))
        else:
            write_text(folder / path.relative_to(csrc), path.read_text(encoding="utf-8"))
    restrict_lists(folder, subject.program, subject.prepared.kernels)
    restrict_build(folder, subject.program, subject.data, subject.prepared)
    return [f"edgekit/{path.relative_to(csrc).as_posix()}" for path in sources]


# ---- The model -------------------------------------------------------------------------------------------------


def port_sizes(program: Program, names: Iterable[str]) -> list[int]:
    """Bytes of inputs or outputs."""
    return [tensor_bytes(program.tensors[name]) for name in names]


def buffer_bytes(program: Program, names: Iterable[str]) -> int:
    """Of a buffer for all of these inputs or outputs."""
    return sum(aligned(size) for size in port_sizes(program, names))


def model_fields(program: Program, data: bytes, prepared: Prepared) -> dict[str, object]:
    """What every model.h says of its model.

    Args:
        data: the model file that `program` was read from.
        prepared: what the runtime says of it.
    """
    major, minor, _ = __version__.split(".", 2)
    return {
        "version": __version__,
        "major": major,
        "minor": minor,
        "sha256": hashlib.sha256(data).hexdigest(),
        "model_bytes": len(data),
        "memory_bytes": prepared.memory_bytes,
        "kernels": kernel_sets(prepared.kernels),
        "input_count": len(program.inputs),
        "output_count": len(program.outputs),
        "inputs_bytes": buffer_bytes(program, program.inputs),
        "outputs_bytes": buffer_bytes(program, program.outputs),
    }


def _model_h(subject: Subject, stack_bytes: int) -> str:
    memory = subject.target.memory
    return templates.MODEL_H.substitute(
        model_fields(subject.program, subject.data, subject.prepared),
        name=subject.name,
        target=subject.target.name,
        stack_bytes=stack_bytes,
        flash_bytes=memory["flash"].bytes,
        ram_bytes=memory["ram"].bytes,
    )


def kernel_sets(kernels: Iterable[str]) -> str:
    """The sets of these kernels, as an expression of C; scalar is always one of them."""
    used = set(kernels)
    names = {kernel.set.upper() for kernel in listed_kernels() if kernel.name in used} | {"SCALAR"}
    return " | ".join(f"EK_KERNELS_{name}" for name in sorted(names))


def aligned(size: int) -> int:
    """Bytes that a buffer takes among others."""
    return -(-size // _ALIGN) * _ALIGN


def _model_c(subject: Subject) -> str:
    program = subject.program
    return templates.MODEL_C.substitute(
        name=subject.name,
        inputs=ports(program, program.inputs),
        outputs=ports(program, program.outputs),
        data=initializers(subject.data),
    )


def ports(program: Program, names: list[str]) -> str:
    """Initializers of {offset, bytes, format} of buffers that lie one behind the other."""
    rows, offset = [], 0
    for name, size in zip(names, port_sizes(program, names), strict=True):
        declared = "EK_FORMAT_FLOAT" if program.tensors[name].dtype == Dtype.F32 else "EK_FORMAT_INT8"
        rows.append(f"    {{{offset}, {size}, {declared}}}, /* {comment(name)} */")
        offset += aligned(size)
    return "\n".join(rows)


def comment(text: str) -> str:
    """A name that cannot end a comment, nor disturb it."""
    return re.sub(r"[^\w .:;/-]", "?", text).replace("*/", "?/").replace("/*", "/?")


def initializers(data: bytes) -> str:
    """C initializers."""
    return "\n".join("    " + "".join(f"{byte}," for byte in data[i : i + 24]) for i in range(0, len(data), 24))


# ---- The self-test ---------------------------------------------------------------------------------------------


def _selftest_data(subject: Subject) -> str:
    program, sample = subject.program, subject.sample
    outputs, tensors = run(program, sample, taps=True)
    quantized = {t.name: tensors[t.name] for t in program.quantized()}
    digests = Digests(program)
    digests.add(Observation(quantized, {"run": outputs}))
    inputs = {name: np.ascontiguousarray(sample[name]) for name in program.inputs}
    return templates.SELFTEST_DATA_C.substitute(
        name=subject.name,
        about=subject.about,
        inputs="\n\n".join(_input(i, array) for i, array in enumerate(inputs.values())),
        input_list="\n".join(
            f"    {{input_{i}, sizeof input_{i}, {_FORMATS[input_format(program, name, array)]}}},"
            for i, (name, array) in enumerate(inputs.items())
        ),
        tensors="\n".join(_operator_crcs(program, {**tensors, **outputs})),
        digests="\n".join(f"    {{{_digest(digests.outputs[name])}}}," for name in program.outputs),
    )


def _input(index: int, array: np.ndarray) -> str:
    return f"_Alignas(8) static const uint8_t input_{index}[] = {{\n{initializers(array.tobytes())}\n}};"


def _operator_crcs(program: Program, values: Mapping[str, np.ndarray]) -> list[str]:
    """For every operator the index of its output and the CRC-32 of it."""
    index = {name: i for i, name in enumerate(program.tensors)}
    rows = []
    for op in program.ops:
        name = op.outputs[0]
        crc = zlib.crc32(np.ascontiguousarray(values[name]).tobytes())
        rows.append(f"    {{{index[name]}, {crc:#010x}}}, /* {op.opcode.name} {comment(op.name)} */")
    return rows


def _digest(hexadecimal: str) -> str:
    return ", ".join(f"0x{hexadecimal[i : i + 2]}" for i in range(0, 64, 2))


# ---- The build -------------------------------------------------------------------------------------------------


def _makefile(target: Target, sources: list[str], selftest: list[str]) -> str:
    gcc, *flags = toolchain.cpu_command(target)
    return templates.MAKEFILE.substitute(
        name="Firmware",
        target=target.name,
        cc=gcc,
        size=gcc.removesuffix("gcc") + "size",
        cpu_flags=" ".join(flags),
        cflags=" ".join(toolchain.FLAGS),
        ldflags=" ".join(toolchain.LINK_FLAGS),
        sources=" \\\n".join(f"    {name}" for name in sources),
        selftest=" \\\n".join(f"    {name}" for name in selftest),
        loops=" ".join(name for name in sources if _is_fast(name)),
        emulator=" ".join(target.emulator),
    )


def _is_fast(source: str) -> bool:
    path = Path(source)
    return path.parent.name == "cortexm" and path.stem not in _SMALL_KERNELS


def readme(subject: Subject, sizes: Mapping[str, int], macs: int) -> str:
    """The folder's README, with what was measured."""
    return templates.README_MD.substitute(
        name=subject.name,
        target=subject.target.name,
        version=__version__,
        cc=toolchain.cpu_command(subject.target)[0],
        emulator=subject.target.emulator[0],
        macs=f"{macs:,}",
        **{key: f"{value:,}" for key, value in sizes.items()},
    )
