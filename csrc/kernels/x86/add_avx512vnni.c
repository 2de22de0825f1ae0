/* SPDX-License-Identifier: Apache-2.0
 *
 * Elementwise addition, 64 values at a time.
 */
#include "elementwise_avx512vnni.h"

/* |x - zero| <= 255, so that the sum of two products with smaller multipliers is below 2^31. */
#define LARGE 4194304.0f

static inline int is_small(float multiplier)
{
    return -LARGE < multiplier && multiplier < LARGE;
}

/* What all values share. */
typedef struct add_values {
    __m512 a_origin, b_origin, a_multiplier, b_multiplier;
    int small; /* every sum is below 2^31 */
    ek_requant_avx512vnni r;
} add_values;

static inline __attribute__((always_inline)) void
add_block(const add_values *v, const ek_broadcast_row *at, int32_t i, __mmask64 mask)
{
    const quarters a = widen(operand(at->a, at->a_stride, i, mask), v->a_origin);
    const quarters b = widen(operand(at->b, at->b_stride, i, mask), v->b_origin);
    quarters sum;
    UNROLL for (int q = 0; q < QUARTERS; q++)
        sum.q[q] = _mm512_add_ps(_mm512_mul_ps(v->a_multiplier, a.q[q]),
                                 _mm512_mul_ps(v->b_multiplier, b.q[q]));
    const __m512i y = v->small ? pack_small(&sum, &v->r) : pack(&sum, &v->r);
    _mm512_mask_storeu_epi8(at->y + i, mask, y);
}

void ek_add_avx512vnni(const void *params, const void *const in[], void *out, void *scratch,
                       const ek_range *range)
{
    const ek_add_params *p = params;
    const add_values v = {origin_of(p->a_zero), origin_of(p->b_zero),
                          _mm512_set1_ps(p->a_multiplier), _mm512_set1_ps(p->b_multiplier),
                          is_small(p->a_multiplier) && is_small(p->b_multiplier),
                          ek_requant_avx512vnni_init(&p->clamp)};
    (void)scratch;

    for (int32_t row = range->row; row < range->row_end; row++) {
        const ek_broadcast_row at = ek_broadcast_at(&p->shape, in, out, row);
        int32_t i = range->ch;
        for (; range->ch_end - i >= BYTES; i += BYTES)
            add_block(&v, &at, i, ~(__mmask64)0);
        if (i < range->ch_end)
            add_block(&v, &at, i, first_values(range->ch_end - i));
    }
}
