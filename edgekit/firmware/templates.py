# SPDX-License-Identifier: Apache-2.0
"""The generated files of a firmware folder, as `string.Template`s."""

from __future__ import annotations

from string import Template

MODEL_H = Template("""\
/* SPDX-License-Identifier: Apache-2.0
 *
 * $name for $target, made by edgekit $version from a file with SHA-256
 * $sha256
 */
#ifndef MODEL_H
#define MODEL_H

#include "edgekit/edgekit.h"

#define MODEL_NAME "$name"
#define MODEL_BYTES ${model_bytes}u

/* The fastest kernels of the target, and what ek_memory_needed says with them. */
#define MODEL_KERNELS ($kernels)
#define MODEL_MEMORY_BYTES ${memory_bytes}u

#define MODEL_INPUT_COUNT ${input_count}u
#define MODEL_OUTPUT_COUNT ${output_count}u
#define MODEL_OUTPUTS_BYTES ${outputs_bytes}u

/* What the linker script gives. */
#define MODEL_STACK_BYTES ${stack_bytes}u
#define MODEL_FLASH_BYTES ${flash_bytes}u
#define MODEL_RAM_BYTES ${ram_bytes}u

_Static_assert(sizeof(void *) == 4, "sizes are those of a 32-bit processor");
_Static_assert(EK_VERSION_MAJOR == $major && EK_VERSION_MINOR == $minor, "runtime of another version");
_Static_assert(MODEL_BYTES < MODEL_FLASH_BYTES, "the model does not fit the flash memory");
_Static_assert(MODEL_MEMORY_BYTES + MODEL_OUTPUTS_BYTES + MODEL_STACK_BYTES <= MODEL_RAM_BYTES,
               "memory, outputs and stack do not fit the RAM");

/* An output among the buffers of all. */
typedef struct model_port {
    uint32_t offset, bytes;
    ek_format format;
} model_port;

/* The file, executed in place. */
extern const uint8_t model_bytes[MODEL_BYTES];
extern const model_port model_outputs[MODEL_OUTPUT_COUNT];

#endif /* MODEL_H */
""")

MODEL_C = Template("""\
/* SPDX-License-Identifier: Apache-2.0
 *
 * $name: the model file and its ports.
 */
#include "model.h"

$ports
const model_port model_outputs[MODEL_OUTPUT_COUNT] = {
$outputs
};

_Alignas(EK_ALIGN) const uint8_t model_bytes[MODEL_BYTES] = {
$data
};
""")

SELFTEST_DATA_C = Template("""\
/* SPDX-License-Identifier: Apache-2.0
 *
 * Self-test of $name: $about.
 */
#include "selftest.h"

$inputs

const selftest_input selftest_inputs[] = {
$input_list
};

const selftest_tensor selftest_tensors[] = {
$tensors
};
const uint32_t selftest_tensor_count = sizeof selftest_tensors / sizeof selftest_tensors[0];

const uint8_t selftest_digests[][32] = {
$digests
};
""")

MAKEFILE = Template("""\
# SPDX-License-Identifier: Apache-2.0
#
# $name on $target.
#   make        firmware.elf
#   make run    the same in QEMU, on the board that it emulates
#   make size   bytes of flash and RAM

CC = $cc
SIZE = $size
FLAGS = $cpu_flags
# Contraction would change results.
CFLAGS = $cflags -Werror -I. -Iedgekit -Iedgekit/include -Iedgekit/firmware
# Speed where it counts.
SMALL = -Os
FAST = -O2
LDFLAGS = $ldflags -T board.ld

SOURCES = \\
$sources
OBJECTS = $$(SOURCES:%.c=build/%.o)

firmware.elf: $$(OBJECTS) board.ld
\t$$(CC) $$(FLAGS) $$(LDFLAGS) $$(OBJECTS) -o $$@

build/edgekit/kernels/${fast}%.o: edgekit/kernels/${fast}%.c
\t@mkdir -p $$(@D)
\t$$(CC) $$(FLAGS) $$(CFLAGS) $$(FAST) -MMD -c $$< -o $$@

build/%.o: %.c
\t@mkdir -p $$(@D)
\t$$(CC) $$(FLAGS) $$(CFLAGS) $$(SMALL) -MMD -c $$< -o $$@

run: firmware.elf
\t$emulator firmware.elf

size: firmware.elf
\t$$(SIZE) -A firmware.elf

clean:
\trm -rf build firmware.elf

.PHONY: run size clean

-include $$(OBJECTS:.o=.d)
""")

README_MD = Template("""\
# $name on $target

Made by `edgekit firmware` (edgekit $version). Needs `$cc` with newlib and `make`; `make run` also `$emulator`.

    make run

builds `firmware.elf` and runs it on the board that QEMU emulates. It executes the model from flash on a built-in
input and compares every operator's output, and the digest of every output, with those that `edgekit verify` computes.

| | bytes |
| --- | ---: |
| flash: code and tables of the program | $code_bytes |
| flash: model file | $model_bytes |
| flash: self-test data | $selftest_bytes |
| RAM: runtime memory (arena $arena_bytes, scratch $scratch_bytes) | $memory_bytes |
| RAM: outputs and other data | $data_bytes |
| RAM: stack (used in the self-test: $stack_used) | $stack_bytes |

MACs of one inference: $macs.

On another board: give its memory in `board.ld`, replace `start.c` by the vendor's start-up code or keep it, and
`semihosting.c` by what prints there. In `main.c`, bind an input of your own instead of `selftest_inputs` and drop
`on_op`; `selftest*.c` and `sha256.c` can then go.
""")
