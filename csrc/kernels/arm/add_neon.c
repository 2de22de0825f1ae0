/* SPDX-License-Identifier: Apache-2.0
 *
 * Addition with broadcasting, sixteen values at a time.
 */
#include "../broadcast.h"
#include "../kernels.h"
#include "blocks_neon.h"

typedef struct operands {
    int8x16_t a_zero, b_zero;
    float32x4_t a_multiplier, b_multiplier;
    ek_requant_neon r;
} operands;

INLINE int8x16_t add(int8x16_t a, int8x16_t b, const operands *o)
{
    const float16 fa = times(to_float(subtract(a, o->a_zero)), o->a_multiplier);
    const float16 fb = times(to_float(subtract(b, o->b_zero)), o->b_multiplier);
    return round_block(plus(fa, fb), &o->r);
}

void ek_add_neon(const void *params, const void *const in[], void *out, void *scratch,
                 const ek_range *range)
{
    const ek_add_params *p = params;
    const int32_t ch_end = range->ch_end; /* which stores to the output cannot change */
    operands o = {vdupq_n_s8((int8_t)p->a_zero), vdupq_n_s8((int8_t)p->b_zero),
                  vdupq_n_f32(p->a_multiplier), vdupq_n_f32(p->b_multiplier),
                  ek_requant_neon_init(&p->clamp)};
    (void)scratch;
    /* clang, which sees equal lanes, would move each high half down to subtract low ones. */
    __asm__("" : "+w"(o.a_zero), "+w"(o.b_zero));

    for (int32_t row = range->row; row < range->row_end; row++) {
        const ek_broadcast_row at = ek_broadcast_at(&p->shape, in, out, row);
        int32_t i = range->ch;
        if (at.a_stride == 1 && at.b_stride == 1)
            for (; i + BLOCK <= ch_end; i += BLOCK)
                vst1q_s8(at.y + i, add(vld1q_s8(at.a + i), vld1q_s8(at.b + i), &o));
        for (; i < ch_end; i += BLOCK) {
            const int32_t count = ch_end - i;
            const int8x16_t a = load_operand(at.a, at.a_stride, i, count);
            const int8x16_t b = load_operand(at.b, at.b_stride, i, count);
            store_block(at.y + i, add(a, b, &o), count);
        }
    }
}
