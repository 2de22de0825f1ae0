/* SPDX-License-Identifier: Apache-2.0
 *
 * Arithmetic of sizes.
 */
#ifndef EK_ARITHMETIC_H
#define EK_ARITHMETIC_H

#include <stdint.h>

static inline int32_t ek_min32(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

/* a >= 0, b > 0 */
static inline int32_t ek_ceil_div32(int32_t a, int32_t b)
{
    return a / b + (a % b != 0);
}

/* Up to the next multiple; below 2^64 - power_of_two. */
static inline uint64_t ek_align_up(uint64_t bytes, uint64_t power_of_two)
{
    return (bytes + power_of_two - 1) & ~(power_of_two - 1);
}

#endif /* EK_ARITHMETIC_H */
