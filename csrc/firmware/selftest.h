/* SPDX-License-Identifier: Apache-2.0
 *
 * The built-in self-test: one known input, the CRC-32 of every operator's output, and the SHA-256 of
 * every output of the model, as `edgekit verify` computes and certifies them.
 */
#ifndef EK_SELFTEST_H
#define EK_SELFTEST_H

#include "edgekit/edgekit.h"

typedef struct selftest_input {
    const void *data;
    uint32_t bytes;
    ek_format format;
} selftest_input;

typedef struct selftest_tensor {
    uint32_t tensor; /* index in the file */
    uint32_t crc32;
} selftest_tensor;

/* Of selftest_data.c, made with the model. */
extern const selftest_input selftest_inputs[];
extern const selftest_tensor selftest_tensors[]; /* in the order of the operators */
extern const uint32_t selftest_tensor_count;
extern const uint8_t selftest_digests[][32];

/* Hand to ek_create as on_op with a selftest_state; zero it before. */
typedef struct selftest_state {
    uint32_t done;  /* operators seen */
    uint32_t wrong; /* 1 + the first that differs; 0: none */
} selftest_state;

void selftest_observe(void *context, const ek_op_event *event);

#define SELFTEST_PASSED 0xFFFFFFFFu

/* After ek_run on selftest_inputs: the index of the first operator whose output differs, or
 * SELFTEST_PASSED. */
uint32_t selftest_operators(const selftest_state *state);

/* Whether output `index` of the model is right. */
int selftest_output(uint32_t index, const void *data, size_t bytes);

#endif /* EK_SELFTEST_H */
