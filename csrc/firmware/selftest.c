/* SPDX-License-Identifier: Apache-2.0
 *
 * Compares a run with what the model must give.
 */
#include "selftest.h"

#include <string.h>

#include "../core/crc32.h"
#include "sha256.h"

void selftest_observe(void *context, const ek_op_event *event)
{
    selftest_state *state = context;
    if (!event->done)
        return;
    const uint32_t i = state->done++;
    const int right = i < selftest_tensor_count && selftest_tensors[i].tensor == event->tensor
        && selftest_tensors[i].crc32 == ek_crc32(0, event->data, event->bytes);
    if (!right && state->wrong == 0)
        state->wrong = i + 1;
}

uint32_t selftest_operators(const selftest_state *state)
{
    if (state->wrong != 0)
        return state->wrong - 1;
    return state->done == selftest_tensor_count ? SELFTEST_PASSED : state->done;
}

int selftest_output(uint32_t index, const void *data, size_t bytes)
{
    uint8_t digest[32];
    sha256(data, bytes, digest);
    return memcmp(digest, selftest_digests[index], sizeof digest) == 0;
}
