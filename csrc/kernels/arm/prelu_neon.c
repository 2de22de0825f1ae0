/* SPDX-License-Identifier: Apache-2.0
 *
 * PRelu, sixteen channels at a time.
 */
#include "../kernels.h"
#include "blocks_neon.h"

/* A factor for each of `count` channels. */
INLINE float16 load_factors(const float *m, int32_t count)
{
    float buffer[BLOCK] = {0};
    if (count < BLOCK) {
        memcpy(buffer, m, (size_t)count * sizeof *m);
        m = buffer;
    }
    return (float16){{vld1q_f32(m), vld1q_f32(m + 4), vld1q_f32(m + 8), vld1q_f32(m + 12)}};
}

/* v times `positive`, or where it is below zero times `negative`. */
INLINE float32x4_t scale(int32x4_t v, float32x4_t positive, float32x4_t negative)
{
    const uint32x4_t below = vcltq_s32(v, vdupq_n_s32(0));
    return vmulq_f32(vcvtq_f32_s32(v), vbslq_f32(below, negative, positive));
}

void ek_prelu_neon(const void *params, const void *const in[], void *out, void *scratch,
                   const ek_range *range)
{
    const ek_prelu_params *p = params;
    const ek_requant_neon r = ek_requant_neon_init(&p->clamp);
    const int8x16_t zero = vdupq_n_s8((int8_t)p->x_zero);
    const float32x4_t m = vdupq_n_f32(p->multiplier);
    (void)scratch;

    for (int32_t row = range->row; row < range->row_end; row++) {
        const int8_t *x = (const int8_t *)in[0] + (ptrdiff_t)row * p->c;
        int8_t *y = (int8_t *)out + (ptrdiff_t)row * p->c;
        for (int32_t i = range->ch; i < range->ch_end; i += BLOCK) {
            const int32_t count = range->ch_end - i;
            const int16x16 v = subtract(load_block(x + i, count), zero);
            const float16 n = load_factors(p->negative + i, count);
            const float16 scaled = {{scale(vmovl_s16(vget_low_s16(v.low)), m, n.v[0]),
                                     scale(movl_high(v.low), m, n.v[1]),
                                     scale(vmovl_s16(vget_low_s16(v.high)), m, n.v[2]),
                                     scale(movl_high(v.high), m, n.v[3])}};
            store_block(y + i, round_block(scaled, &r), count);
        }
    }
}
