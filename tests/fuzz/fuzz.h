/* SPDX-License-Identifier: Apache-2.0
 *
 * What the fuzzed path and the mutator share.
 */
#ifndef EK_FUZZ_H
#define EK_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* splitmix64. */
typedef struct fuzz_random {
    uint64_t state;
} fuzz_random;

static inline uint64_t fuzz_next(fuzz_random *r)
{
    uint64_t z = r->state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static inline uint32_t fuzz_below(fuzz_random *r, uint32_t limit)
{
    return limit == 0 ? 0 : (uint32_t)(fuzz_next(r) % limit);
}

/* Any bytes, eight a step. */
static inline void fuzz_fill(fuzz_random *r, uint8_t *data, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 8) {
        const uint64_t word = fuzz_next(r);
        memcpy(data + i, &word, bytes - i < 8 ? bytes - i : 8);
    }
}

/* About as many multiply-accumulates as one run of a checked file takes. */
uint64_t fuzz_work(const uint8_t *file);

/* How many runs show all that a checked file does. */
uint32_t fuzz_runs(const uint8_t *file);

#endif /* EK_FUZZ_H */
