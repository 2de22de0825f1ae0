/* SPDX-License-Identifier: Apache-2.0
 *
 * What elementwise operators of two inputs share: rows of a broadcast in groups of eight values.
 */
#ifndef EK_ELEMENTWISE_MVE_H
#define EK_ELEMENTWISE_MVE_H

#include <string.h>

#include "../broadcast.h"
#include "../window.h"
#include "mve.h"

#define EK_MVE_VALUES 8 /* of a group */
#define EK_MVE_AT_ONCE 64 /* values, where an operand repeats */

/* y[i] from a[i] and b[i], for `groups` groups, 1 or more; the assembly loads the struct into core
 * registers. */
typedef struct ek_mve_pair_job {
    int32_t groups, a_zero, b_zero;
    float a_multiplier, b_multiplier; /* the first one alone for a product */
    int32_t zero, lo, hi;
} ek_mve_pair_job;

typedef void (*ek_mve_pair_fn)(const int8_t *a, const int8_t *b, int8_t *y,
                               const ek_mve_pair_job *job);

/* r0 a, r1 b, r2 y; r4 to r11 the job; q4 lo, q5 hi. Eight values of each, less their zero points,
 * in q0 and q1. */
#define EK_MVE_PAIRS_BEGIN                             \
    "    push {r4-r11, lr}\n"                          \
    "    vpush {d8-d11}\n"                             \
    "    ldm r3, {r4, r5, r6, r7, r8, r9, r10, r11}\n" \
    "    vdup.16 q4, r10\n"                            \
    "    vdup.16 q5, r11\n"                            \
    "    dls lr, r4\n"                                 \
    "1:  vldrb.s16 q0, [r0], #8\n"                     \
    "    vldrb.s16 q1, [r1], #8\n"                     \
    "    vsub.i16 q0, q0, r5\n"                        \
    "    vsub.i16 q1, q1, r6\n"

/* Eight outputs from real values in q0, the even ones, and q2. They are rounded and saturated, to
 * 16 bits at first. */
#define EK_MVE_PAIRS_END          \
    "    vcvtn.s32.f32 q0, q0\n"  \
    "    vcvtn.s32.f32 q2, q2\n"  \
    "    vqmovnb.s32 q0, q0\n"    \
    "    vqmovnt.s32 q0, q2\n"    \
    "    vqadd.s16 q0, q0, r9\n"  \
    "    vmax.s16 q0, q0, q4\n"   \
    "    vmin.s16 q0, q0, q5\n"   \
    "    vstrb.16 q0, [r2], #8\n" \
    "    le lr, 1b\n"             \
    "    vpop {d8-d11}\n"         \
    "    pop {r4-r11, pc}\n"

/* `count` values of an operand from its i-th on, with some behind them that do not matter: in
 * `buffer` unless they stand in memory in whole groups. */
static inline const int8_t *ek_mve_operand(const int8_t *x, int32_t stride, int32_t i,
                                           int32_t count, int8_t buffer[EK_MVE_AT_ONCE])
{
    if (stride == 0)
        return memset(buffer, x[0], EK_MVE_AT_ONCE);
    if (count % EK_MVE_VALUES == 0)
        return x + i;
    return memcpy(buffer, x + i, (size_t)count);
}

static inline void ek_mve_elementwise(const ek_broadcast *shape, const void *const in[], void *out,
                                      const ek_range *range, ek_mve_pair_fn pairs,
                                      ek_mve_pair_job *job)
{
    int8_t a[EK_MVE_AT_ONCE], b[EK_MVE_AT_ONCE], y[EK_MVE_VALUES];
    for (int32_t row = range->row; row < range->row_end; row++) {
        const ek_broadcast_row at = ek_broadcast_at(shape, in, out, row);
        const int repeats = at.a_stride == 0 || at.b_stride == 0;
        for (int32_t i = range->ch, count; i < range->ch_end; i += count) {
            const int32_t left = range->ch_end - i;
            count = repeats ? ek_min(left, EK_MVE_AT_ONCE) : left;
            if (count > EK_MVE_VALUES)
                count = count / EK_MVE_VALUES * EK_MVE_VALUES;
            const int whole = count % EK_MVE_VALUES == 0;
            job->groups = (count + EK_MVE_VALUES - 1) / EK_MVE_VALUES;
            pairs(ek_mve_operand(at.a, at.a_stride, i, count, a),
                  ek_mve_operand(at.b, at.b_stride, i, count, b), whole ? at.y + i : y, job);
            if (!whole)
                memcpy(at.y + i, y, (size_t)count);
        }
    }
}

#endif /* EK_ELEMENTWISE_MVE_H */
