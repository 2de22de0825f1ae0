/* SPDX-License-Identifier: Apache-2.0
 *
 * Sixteen values at a time of elementwise operators: as 16-bit differences from a zero point, as
 * binary32, and back. `count` may be less than sixteen where it is given: then only that many are
 * touched in memory, through a buffer.
 */
#ifndef EK_BLOCKS_NEON_H
#define EK_BLOCKS_NEON_H

#include <string.h>

#include "neon.h"
#include "requant_neon.h"

#define BLOCK 16

INLINE int8x16_t load_block(const int8_t *x, int32_t count)
{
    int8_t buffer[BLOCK] = {0};
    if (count >= BLOCK)
        return vld1q_s8(x);
    memcpy(buffer, x, (size_t)count);
    return vld1q_s8(buffer);
}

/* Values of a broadcast operand from the i-th on; with stride 0 it has one for all channels. */
INLINE int8x16_t load_operand(const int8_t *x, int32_t stride, int32_t i, int32_t count)
{
    return stride == 0 ? vdupq_n_s8(*x) : load_block(x + i, count);
}

INLINE void store_block(int8_t *y, int8x16_t v, int32_t count)
{
    int8_t buffer[BLOCK];
    if (count >= BLOCK) {
        vst1q_s8(y, v);
    } else {
        vst1q_s8(buffer, v);
        memcpy(y, buffer, (size_t)count);
    }
}

/* Differences lie in [-255, 255]. */
typedef struct int16x16 {
    int16x8_t low, high;
} int16x16;

INLINE int16x16 subtract(int8x16_t x, int8x16_t zero)
{
    return (int16x16){vsubl_s8(vget_low_s8(x), vget_low_s8(zero)), subl_high(x, zero)};
}

typedef struct float16 {
    float32x4_t v[4];
} float16;

INLINE float16 to_float(int16x16 x)
{
    return (float16){{vcvtq_f32_s32(vmovl_s16(vget_low_s16(x.low))),
                      vcvtq_f32_s32(movl_high(x.low)),
                      vcvtq_f32_s32(vmovl_s16(vget_low_s16(x.high))),
                      vcvtq_f32_s32(movl_high(x.high))}};
}

INLINE float16 times(float16 x, float32x4_t m)
{
    return (float16){{vmulq_f32(x.v[0], m), vmulq_f32(x.v[1], m), vmulq_f32(x.v[2], m),
                      vmulq_f32(x.v[3], m)}};
}

INLINE float16 times_each(float16 x, float16 m)
{
    return (float16){{vmulq_f32(x.v[0], m.v[0]), vmulq_f32(x.v[1], m.v[1]),
                      vmulq_f32(x.v[2], m.v[2]), vmulq_f32(x.v[3], m.v[3])}};
}

INLINE float16 plus(float16 x, float16 y)
{
    return (float16){{vaddq_f32(x.v[0], y.v[0]), vaddq_f32(x.v[1], y.v[1]),
                      vaddq_f32(x.v[2], y.v[2]), vaddq_f32(x.v[3], y.v[3])}};
}

INLINE int8x16_t round_block(float16 x, const ek_requant_neon *r)
{
    return ek_clamp16_neon(ek_round8_neon(x.v[0], x.v[1], r), ek_round8_neon(x.v[2], x.v[3], r),
                           r);
}

#endif /* EK_BLOCKS_NEON_H */
