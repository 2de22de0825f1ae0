/* SPDX-License-Identifier: Apache-2.0
 *
 * Softmax: what depends on the values alone is done sixteen at a time, distances from the maximum
 * before the look-up and outputs behind it. The entries themselves are loaded one by one, into
 * scratch: the permutations that a table of 1 KB takes are no fewer cycles. A row's last block
 * reaches back into the one before it.
 */
#include "../kernels.h"
#include "../window.h"
#include "blocks_neon.h"

/* Where the last block that begins in `count` values, BLOCK or more, begins. */
INLINE int32_t block_at(int32_t i, int32_t count) { return ek_min(i, count - BLOCK); }

INLINE int8x16_t greatest_of(int8x16_t v)
{
#ifdef __aarch64__
    return vdupq_n_s8(vmaxvq_s8(v));
#else
    int8x8_t m = vpmax_s8(vget_low_s8(v), vget_high_s8(v));
    m = vpmax_s8(m, m);
    m = vpmax_s8(m, m);
    m = vpmax_s8(m, m);
    return vcombine_s8(m, m);
#endif
}

INLINE int8x16_t max_of(const int8_t *x, int32_t count)
{
    int8x16_t greatest = vld1q_s8(x);
    for (int32_t i = BLOCK; i < count; i += BLOCK)
        greatest = vmaxq_s8(greatest, vld1q_s8(x + block_at(i, count)));
    return greatest_of(greatest);
}

/* Two words to to[i] and behind it, i a literal: one instruction, which GCC does not choose. Both
 * are read before the first one is written, or clang would not. */
#if defined(__aarch64__) && !defined(__clang__)
#define STORE_PAIR(to, i, a, b)                                                                 \
    __asm__("stp %w1, %w2, [%3, #4 * " #i "]"                                                   \
            : "=m"(*(uint32_t(*)[2])((to) + (i)))                                               \
            : "r"(a), "r"(b), "r"(to))
#else
#define STORE_PAIR(to, i, a, b)                                                                 \
    do {                                                                                        \
        const uint32_t a_ = (a), b_ = (b);                                                      \
        (to)[i] = a_;                                                                           \
        (to)[(i) + 1] = b_;                                                                     \
    } while (0)
#endif

/* The entries of eight distances. */
INLINE void look_up8(const uint32_t *table, uint8x8_t distance, uint32_t *to)
{
#ifdef __aarch64__
    const uint64_t low = vget_lane_u64(vreinterpret_u64_u8(distance), 0), high = low >> 32;
#else
    const uint32_t low = vget_lane_u32(vreinterpret_u32_u8(distance), 0);
    const uint32_t high = vget_lane_u32(vreinterpret_u32_u8(distance), 1);
#endif
    STORE_PAIR(to, 0, table[(uint8_t)low], table[(uint8_t)(low >> 8)]);
    STORE_PAIR(to, 2, table[(uint8_t)(low >> 16)], table[(uint8_t)(low >> 24)]);
    STORE_PAIR(to, 4, table[(uint8_t)high], table[(uint8_t)(high >> 8)]);
    STORE_PAIR(to, 6, table[(uint8_t)(high >> 16)], table[(uint8_t)(high >> 24)]);
}

INLINE void look_up(const uint32_t *table, int8x16_t max, const int8_t *x, int32_t count,
                    uint32_t *to)
{
    for (int32_t i = 0; i < count; i += BLOCK) {
        const int32_t at = block_at(i, count);
        const uint8x16_t distance = vreinterpretq_u8_s8(vsubq_s8(max, vld1q_s8(x + at)));
        look_up8(table, vget_low_u8(distance), to + at);
        look_up8(table, vget_high_u8(distance), to + at + 8);
    }
}

/* BLOCK entries behind the row become zeros. The sum is below 2^31, and so is every part of it. */
INLINE uint32_t sum_of(uint32_t *t, int32_t count)
{
    const uint32x4_t none = vdupq_n_u32(0);
    uint32x4_t sum = none;
    for (int i = 0; i < BLOCK; i += 4)
        vst1q_u32(t + count + i, none);
    for (int32_t i = 0; i < count; i += BLOCK) {
        const uint32x4_t low = vaddq_u32(vld1q_u32(t + i), vld1q_u32(t + i + 4));
        const uint32x4_t high = vaddq_u32(vld1q_u32(t + i + 8), vld1q_u32(t + i + 12));
        sum = vaddq_u32(sum, vaddq_u32(low, high));
    }
    const uint32x2_t half = vadd_u32(vget_low_u32(sum), vget_high_u32(sum));
    return vget_lane_u32(vpadd_u32(half, half), 0);
}

INLINE float16 entries_as_floats(const uint32_t *t)
{
    return (float16){{vcvtq_f32_u32(vld1q_u32(t)), vcvtq_f32_u32(vld1q_u32(t + 4)),
                      vcvtq_f32_u32(vld1q_u32(t + 8)), vcvtq_f32_u32(vld1q_u32(t + 12))}};
}

/* A row; x and y have `room` for it, BLOCK values or more. What x has behind it is not above all of
 * the row. */
static void softmax_row(const ek_softmax_params *p, const int8_t *x, int8_t *y, int32_t room,
                        uint32_t *t, const ek_requant_neon *r)
{
    look_up(p->table, max_of(x, room), x, room, t);
    const float32x4_t k = vdupq_n_f32(p->inverse_scale / (float)sum_of(t, p->c));
    for (int32_t i = 0; i < room; i += BLOCK) {
        const int32_t at = block_at(i, room);
        vst1q_s8(y + at, round_block(times(entries_as_floats(t + at), k), r));
    }
}

/* A row of less than BLOCK values. */
static void softmax_short_row(const ek_softmax_params *p, const int8_t *x, int8_t *y, uint32_t *t,
                              const ek_requant_neon *r)
{
    int8_t buffer[BLOCK];
    memset(buffer, x[0], BLOCK);
    memcpy(buffer, x, (size_t)p->c);
    softmax_row(p, buffer, buffer, BLOCK, t, r);
    memcpy(y, buffer, (size_t)p->c);
}

/* The entries of a row. */
size_t ek_softmax_neon_scratch(const void *params)
{
    const ek_softmax_params *p = params;
    return ((size_t)p->c + BLOCK) * sizeof(uint32_t);
}

void ek_softmax_neon(const void *params, const void *const in[], void *out, void *scratch,
                     const ek_range *range)
{
    const ek_softmax_params *p = params;
    const ek_requant_neon r = ek_requant_neon_init(&p->clamp);

    for (int32_t row = range->row; row < range->row_end; row++) {
        const int8_t *x = (const int8_t *)in[0] + (ptrdiff_t)row * p->c;
        int8_t *y = (int8_t *)out + (ptrdiff_t)row * p->c;
        if (p->c >= BLOCK)
            softmax_row(p, x, y, p->c, scratch, &r);
        else
            softmax_short_row(p, x, y, scratch, &r);
    }
}
