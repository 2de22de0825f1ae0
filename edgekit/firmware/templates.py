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
#define MODEL_INPUTS_BYTES ${inputs_bytes}u
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

/* An input or output among the buffers of all, in the format that the model declares. */
typedef struct model_port {
    uint32_t offset, bytes;
    ek_format format;
} model_port;

/* The file, executed in place. */
extern const uint8_t model_bytes[MODEL_BYTES];
extern const model_port model_inputs[MODEL_INPUT_COUNT];
extern const model_port model_outputs[MODEL_OUTPUT_COUNT];

#endif /* MODEL_H */
""")

MODEL_C = Template("""\
/* SPDX-License-Identifier: Apache-2.0
 *
 * $name: the model file and its ports.
 */
#include "model.h"

const model_port model_inputs[MODEL_INPUT_COUNT] = {
$inputs
};

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
#   make        firmware.elf: the self-test; application.elf: the model, and nothing that tests it
#   make run    the same in QEMU, on the board that it emulates
#   make size   bytes of flash and RAM

CC = $cc
SIZE = $size
EMULATOR = $emulator
FLAGS = $cpu_flags
# Contraction would change results.
CFLAGS = $cflags -Werror -I. -Iedgekit -Iedgekit/include -Iedgekit/firmware
# Speed where loops are in C.
SMALL = -Os
FAST = -O2
# The whole program is compiled at once: functions that are called once or with constants become smaller.
LTO = -flto
# `make STACK=-fcallgraph-info=su` writes call graphs with frames.
STACK =
LDFLAGS = $ldflags -T board.ld

SOURCES = \\
$sources
LOOPS = $loops
SELFTEST = \\
$selftest
OBJECTS = $$(SOURCES:%.c=build/%.o)
OPTIMIZE = $$(SMALL)
FIRMWARE = $$(OBJECTS) $$(SELFTEST:%.c=build/%.o)
APPLICATION = $$(OBJECTS) build/application.o
LINK = $$(CC) $$(FLAGS) $$(SMALL) $$(LTO) $$(STACK) -dumpdir build/$$@. $$(LDFLAGS)

all: firmware.elf application.elf

firmware.elf: $$(FIRMWARE) board.ld
\t$$(LINK) $$(FIRMWARE) -o $$@

application.elf: $$(APPLICATION) board.ld
\t$$(LINK) $$(APPLICATION) -o $$@

$$(LOOPS:%.c=build/%.o): OPTIMIZE = $$(FAST)

build/%.o: %.c
\t@mkdir -p $$(@D)
\t$$(CC) $$(FLAGS) $$(CFLAGS) $$(OPTIMIZE) $$(LTO) -MMD -c $$< -o $$@

run: firmware.elf
\t$$(EMULATOR) firmware.elf

size: firmware.elf application.elf
\t$$(SIZE) -A firmware.elf application.elf

clean:
\trm -rf build firmware.elf application.elf

.PHONY: all run size clean

-include $$(FIRMWARE:.o=.d) $$(APPLICATION:.o=.d)
""")

README_MD = Template("""\
# $name on $target

Made by `edgekit firmware` (edgekit $version). Needs `$cc` with newlib and `make`; `make run` also `$emulator`.

    make run

builds `firmware.elf` and runs it on the board that QEMU emulates. It executes the model from flash on a built-in
input and compares every operator's output, and the digest of every output, with those that `edgekit verify` computes.
`make` also builds `application.elf`, of `application.c`: the model without that test. The code is measured in it.

| | bytes |
| --- | ---: |
| flash: code and tables of `application.elf` | $code_bytes |
| flash: model file | $model_bytes |
| flash: what the self-test adds | $selftest_bytes |
| RAM: runtime memory (arena $arena_bytes, scratch $scratch_bytes) | $memory_bytes |
| RAM: outputs and other data | $data_bytes |
| RAM: stack | $stack_bytes |

No path through the program uses more than $stack_bound bytes of stack: frames of functions and calls, from the compiler's
call graph and the disassembly. The self-test used $stack_used. $stack_margin bytes are added for an interrupt.

MACs of one inference: $macs.

On another board: give its memory in `board.ld`, replace `start.c` by the vendor's start-up code or keep it, and
`semihosting.c` by what prints there. Begin with `application.c`; `main.c`, `selftest*.c` and `sha256.c` are the self-test.
""")
