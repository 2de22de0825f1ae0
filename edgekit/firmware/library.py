# SPDX-License-Identifier: Apache-2.0
"""Writes a library folder: the model and the parts of the runtime that it needs, for build systems of others.

Everything compiles with `src/` as the only include folder and without any flag, which is what Arduino gives.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from string import Template

from edgekit.firmware.generate import buffer_bytes, initializers, model_fields, ports, write_text
from edgekit.firmware.manifests import HEADER, manifests
from edgekit.firmware.runtime import restrict_build, restrict_lists, runtime_sources, with_headers
from edgekit.program import Program
from edgekit.serving import Prepared
from edgekit.sources import source_root

_LICENSE_LINE = "/* SPDX-License-Identifier: Apache-2.0"
_INCLUDE_FOLDER = re.compile(r'^(#include "(?:\.\./)*)include/edgekit/', re.M)

_COMPILE_H = """\
/* SPDX-License-Identifier: Apache-2.0
 *
 * Included first by every C file, for build systems that pass no flags: contraction of a*b+c would
 * change results. Kernels ask for speed as well.
 */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#ifdef EDGEKIT_KERNEL
#pragma GCC optimize("O2")
#endif
#endif
"""

_MODEL_H = Template("""\
/* SPDX-License-Identifier: Apache-2.0
 *
 * $title for $processor, made by edgekit $version from a file with SHA-256
 * $sha256
 */
#ifndef EDGEKIT_MODEL_H
#define EDGEKIT_MODEL_H

#include "edgekit/edgekit.h"

#ifdef __cplusplus
#define EDGEKIT_STATIC_ASSERT static_assert
extern "C" {
#else
#define EDGEKIT_STATIC_ASSERT _Static_assert
#endif

#define EDGEKIT_MODEL_NAME "$title"
#define EDGEKIT_MODEL_BYTES ${model_bytes}u

/* The kernels that are here, and what ek_memory_needed says with them. */
#define EDGEKIT_MODEL_KERNELS ($kernels)
#define EDGEKIT_MODEL_MEMORY_BYTES ${memory_bytes}u

#define EDGEKIT_MODEL_INPUT_COUNT ${input_count}u
#define EDGEKIT_MODEL_OUTPUT_COUNT ${output_count}u
#define EDGEKIT_MODEL_INPUTS_BYTES ${inputs_bytes}u
#define EDGEKIT_MODEL_OUTPUTS_BYTES ${outputs_bytes}u

EDGEKIT_STATIC_ASSERT(sizeof(void *) == 4, "sizes are those of a 32-bit processor");
EDGEKIT_STATIC_ASSERT(EK_VERSION_MAJOR == $major && EK_VERSION_MINOR == $minor, "runtime of another version");

/* An input or output among the buffers of all. */
typedef struct edgekit_port {
    uint32_t offset, bytes;
    ek_format format;
} edgekit_port;

/* The file, executed in place. */
extern const uint8_t edgekit_model_bytes[EDGEKIT_MODEL_BYTES];
extern const edgekit_port edgekit_model_inputs[EDGEKIT_MODEL_INPUT_COUNT];
extern const edgekit_port edgekit_model_outputs[EDGEKIT_MODEL_OUTPUT_COUNT];

/* The model, opened, and its instance. */
typedef struct edgekit_net {
    ek_model model;
    ek_instance *instance;
} edgekit_net;

/* Opens the model, makes an instance in EDGEKIT_MODEL_MEMORY_BYTES at `memory` and binds its inputs and
 * outputs, which lie at the ports' offsets in the two buffers. All three are aligned to EK_ALIGN. Then
 * ek_run(net->instance) runs it. EK_ERROR_MEMORY: the compiler's layout of structures needs more memory. */
ek_status edgekit_model_start(edgekit_net *net, void *memory, void *inputs, void *outputs);

#ifdef __cplusplus
}
#endif
#endif /* EDGEKIT_MODEL_H */
""")

_MODEL_C = Template("""\
/* SPDX-License-Identifier: Apache-2.0
 *
 * $title: the model file and its ports.
 */
#include "$header"

const edgekit_port edgekit_model_inputs[EDGEKIT_MODEL_INPUT_COUNT] = {
$inputs
};

const edgekit_port edgekit_model_outputs[EDGEKIT_MODEL_OUTPUT_COUNT] = {
$outputs
};

static ek_status bind(ek_instance *net, uint8_t *inputs, uint8_t *outputs)
{
    ek_status status = EK_OK;
    for (uint32_t i = 0; i < EDGEKIT_MODEL_INPUT_COUNT && status == EK_OK; i++) {
        const edgekit_port *in = &edgekit_model_inputs[i];
        status = ek_bind_input(net, i, inputs + in->offset, in->bytes, in->format);
    }
    for (uint32_t i = 0; i < EDGEKIT_MODEL_OUTPUT_COUNT && status == EK_OK; i++) {
        const edgekit_port *out = &edgekit_model_outputs[i];
        status = ek_bind_output(net, i, outputs + out->offset, out->bytes, out->format);
    }
    return status;
}

ek_status edgekit_model_start(edgekit_net *net, void *memory, void *inputs, void *outputs)
{
    const ek_config config = {.kernels = EDGEKIT_MODEL_KERNELS};
    ek_status status = ek_open(&net->model, edgekit_model_bytes, EDGEKIT_MODEL_BYTES, 0);
    if (status == EK_OK)
        status = ek_create(&net->instance, &net->model, &config, memory, EDGEKIT_MODEL_MEMORY_BYTES);
    if (status == EK_OK)
        status = bind(net->instance, inputs, outputs);
    return status;
}

_Alignas(EK_ALIGN) const uint8_t edgekit_model_bytes[EDGEKIT_MODEL_BYTES] = {
$data
};
""")


@dataclass(frozen=True)
class Contents:
    """What becomes a library.

    Attributes:
        title: the model's name, of word characters, dots and dashes.
        program: what `data`, the model file, holds.
        prepared: what the runtime says of the model with the kernels that are to be there.
        processor: what the library is for, in words.
        fpu: its processor has an FPU.
    """

    title: str
    program: Program
    data: bytes
    prepared: Prepared
    processor: str
    fpu: bool


def generate_library(contents: Contents, folder: Path) -> None:
    """Fills `folder`, which is new."""
    model = f"src/{Path(HEADER).with_suffix('.c')}"
    files = {
        "src/edgekit/compile.h": _COMPILE_H,
        f"src/{HEADER}": _model_h(contents),
        model: _with_pragmas(_model_c(contents), Path(model).name),
    }
    sources = _copy_runtime(contents, folder / "src")
    program, prepared = contents.program, contents.prepared
    sizes = {
        "model_bytes": len(contents.data),
        "memory_bytes": prepared.memory_bytes,
        "ports_bytes": buffer_bytes(program, program.inputs) + buffer_bytes(program, program.outputs),
    }
    files.update(manifests(contents.title, contents.processor, [model, *sources], sizes, contents.fpu))
    for path, text in files.items():
        write_text(folder / path, text)


def _copy_runtime(contents: Contents, folder: Path) -> list[str]:
    """Copies what the model needs to the folder `src` and returns the C files, relative to the one around it."""
    csrc = source_root() / "csrc"
    sources = runtime_sources(contents.program, contents.prepared.kernels)
    for path in with_headers(sources):
        place = path.relative_to(csrc).as_posix().removeprefix("include/")
        text = _INCLUDE_FOLDER.sub(r"\1edgekit/", path.read_text(encoding="utf-8"))
        write_text(folder / place, _with_pragmas(text, place) if path.suffix == ".c" else text)
    restrict_lists(folder, contents.program, contents.prepared.kernels)
    restrict_build(folder, contents.program, contents.data, contents.prepared)
    return [f"src/{path.relative_to(csrc).as_posix()}" for path in sources]


def _with_pragmas(text: str, place: str) -> str:
    """A C file of the folder `src` that includes compile.h before all else."""
    assert text.startswith(_LICENSE_LINE), f"{place} does not begin with its license"
    end = text.index("*/") + 3
    up = "../" * place.count("/")
    kernel = "#define EDGEKIT_KERNEL\n" if place.startswith("kernels/") else ""
    return f'{text[:end]}{kernel}#include "{up}edgekit/compile.h"\n\n{text[end:].lstrip()}'


def _model_h(contents: Contents) -> str:
    return _MODEL_H.substitute(
        model_fields(contents.program, contents.data, contents.prepared),
        title=contents.title,
        processor=contents.processor,
    )


def _model_c(contents: Contents) -> str:
    program = contents.program
    return _MODEL_C.substitute(
        title=contents.title,
        header=HEADER,
        inputs=ports(program, program.inputs),
        outputs=ports(program, program.outputs),
        data=initializers(contents.data),
    )
