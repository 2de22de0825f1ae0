/* SPDX-License-Identifier: Apache-2.0
 *
 * Elementwise multiplication, 64 values at a time. Products of two operands, of at most 255 * 255,
 * are exact as binary32.
 */
#include "elementwise_avx512vnni.h"

/* What all values share. */
typedef struct mul_values {
    __m512 a_origin, b_origin, multiplier;
    ek_requant_avx512vnni r;
} mul_values;

static inline __attribute__((always_inline)) void
mul_block(const mul_values *v, const ek_broadcast_row *at, int32_t i, __mmask64 mask)
{
    const quarters a = widen(operand(at->a, at->a_stride, i, mask), v->a_origin);
    const quarters b = widen(operand(at->b, at->b_stride, i, mask), v->b_origin);
    quarters product;
    UNROLL for (int q = 0; q < QUARTERS; q++)
        product.q[q] = _mm512_mul_ps(_mm512_mul_ps(a.q[q], b.q[q]), v->multiplier);
    _mm512_mask_storeu_epi8(at->y + i, mask, pack(&product, &v->r));
}

void ek_mul_avx512vnni(const void *params, const void *const in[], void *out, void *scratch,
                       const ek_range *range)
{
    const ek_mul_params *p = params;
    const mul_values v = {origin_of(p->a_zero), origin_of(p->b_zero),
                          _mm512_set1_ps(p->multiplier), ek_requant_avx512vnni_init(&p->clamp)};
    (void)scratch;

    for (int32_t row = range->row; row < range->row_end; row++) {
        const ek_broadcast_row at = ek_broadcast_at(&p->shape, in, out, row);
        int32_t i = range->ch;
        for (; range->ch_end - i >= BYTES; i += BYTES)
            mul_block(&v, &at, i, ~(__mmask64)0);
        if (i < range->ch_end)
            mul_block(&v, &at, i, first_values(range->ch_end - i));
    }
}
