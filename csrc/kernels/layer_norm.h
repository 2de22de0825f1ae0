/* SPDX-License-Identifier: Apache-2.0
 *
 * What every layer norm kernel does once per row.
 */
#ifndef EK_LAYER_NORM_H
#define EK_LAYER_NORM_H

#include "kernel.h"
#include "square_root.h"

/* f32(v) for 0 <= v < 2^46, without the 64-bit conversion that 32-bit processors have as a function
 * only. Each shift leaves at least 26 bits, of which the last one stands for all that were lost:
 * that rounds as v. */
static inline float ek_float_of_sum(int64_t v)
{
    float unit = 1.0f;
    while (v >= INT64_C(1) << 31) {
        v = v >> 6 | ((v & 63) != 0);
        unit *= 64.0f;
    }
    return (float)(int32_t)v * unit;
}

/* f32(1 / f32(sqrt(f32(f32(v) + epsilon)))) of a row with these sums. c <= 2^16 elements of an int8
 * have |sum| <= 2^23 and squares <= 2^30, so v < 2^46. */
static inline float ek_inverse_deviation(int32_t c, int32_t sum, int32_t squares, float epsilon)
{
    const int64_t v = (int64_t)c * squares - (int64_t)sum * sum;
    return 1.0f / ek_square_root(ek_float_of_sum(v) + epsilon);
}

#endif /* EK_LAYER_NORM_H */
