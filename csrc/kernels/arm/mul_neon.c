/* SPDX-License-Identifier: Apache-2.0
 *
 * Multiplication with broadcasting, sixteen values at a time. Products of two differences need 18
 * bits.
 */
#include "../broadcast.h"
#include "../kernels.h"
#include "blocks_neon.h"

INLINE int8x16_t multiply(int16x16 a, int16x16 b, float32x4_t m, const ek_requant_neon *r)
{
    const int32x4_t product[4] = {vmull_s16(vget_low_s16(a.low), vget_low_s16(b.low)),
                                  vmull_s16(vget_high_s16(a.low), vget_high_s16(b.low)),
                                  vmull_s16(vget_low_s16(a.high), vget_low_s16(b.high)),
                                  vmull_s16(vget_high_s16(a.high), vget_high_s16(b.high))};
    const float32x4_t multipliers[4] = {m, m, m, m};
    return ek_requantize16_neon(product, multipliers, r);
}

void ek_mul_neon(const void *params, const void *const in[], void *out, void *scratch,
                 const ek_range *range)
{
    const ek_mul_params *p = params;
    const ek_requant_neon r = ek_requant_neon_init(&p->clamp);
    const int8x16_t a_zero = vdupq_n_s8((int8_t)p->a_zero), b_zero = vdupq_n_s8((int8_t)p->b_zero);
    const float32x4_t m = vdupq_n_f32(p->multiplier);
    (void)scratch;

    for (int32_t row = range->row; row < range->row_end; row++) {
        const ek_broadcast_row at = ek_broadcast_at(&p->shape, in, out, row);
        for (int32_t i = range->ch; i < range->ch_end; i += BLOCK) {
            const int32_t count = range->ch_end - i;
            const int8x16_t a = load_operand(at.a, at.a_stride, i, count);
            const int8x16_t b = load_operand(at.b, at.b_stride, i, count);
            store_block(at.y + i, multiply(subtract(a, a_zero), subtract(b, b_zero), m, &r), count);
        }
    }
}
