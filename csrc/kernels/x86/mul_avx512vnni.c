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
store_products(const mul_values *v, quarters a, quarters b, int8_t *y, __mmask64 mask)
{
    quarters product;
    UNROLL for (int q = 0; q < QUARTERS; q++)
        product.q[q] = _mm512_mul_ps(_mm512_mul_ps(a.q[q], b.q[q]), v->multiplier);
    _mm512_mask_storeu_epi8(y, mask, pack(&product, &v->r));
}

static inline __attribute__((always_inline)) void
mul_block(const mul_values *v, const ek_broadcast_row *at, int32_t i, __mmask64 mask)
{
    const quarters a = widen(operand(at->a, at->a_stride, i, mask), v->a_origin);
    const quarters b = widen(operand(at->b, at->b_stride, i, mask), v->b_origin);
    store_products(v, a, b, at->y + i, mask);
}

/* Whether all rows are multiplied with the same one, as behind a squeeze-and-excitation. */
static int has_one_factor_row(const ek_broadcast *shape)
{
    return shape->rank == 2 && shape->a_stride[1] == 1 && shape->b_stride[0] == 0
        && shape->b_stride[1] == 1;
}

/* Up to 64 channels of all rows; the factors are widened once. */
static inline __attribute__((always_inline)) void
mul_column(const mul_values *v, const ek_broadcast *shape, const void *const in[], int8_t *y,
           const ek_range *range, int32_t i, __mmask64 mask)
{
    const quarters b = widen(operand(in[1], 1, i, mask), v->b_origin);
    for (int32_t row = range->row; row < range->row_end; row++) {
        const int8_t *a = (const int8_t *)in[0] + (ptrdiff_t)row * shape->a_stride[0];
        store_products(v, widen(operand(a, 1, i, mask), v->a_origin), b,
                       y + (ptrdiff_t)row * shape->dims[1] + i, mask);
    }
}

static void mul_columns(const mul_values *v, const ek_broadcast *shape, const void *const in[],
                        int8_t *y, const ek_range *range)
{
    int32_t i = range->ch;
    for (; range->ch_end - i >= BYTES; i += BYTES)
        mul_column(v, shape, in, y, range, i, ~(__mmask64)0);
    if (i < range->ch_end)
        mul_column(v, shape, in, y, range, i, first_values(range->ch_end - i));
}

void ek_mul_avx512vnni(const void *params, const void *const in[], void *out, void *scratch,
                       const ek_range *range)
{
    const ek_mul_params *p = params;
    const mul_values v = {origin_of(p->a_zero), origin_of(p->b_zero),
                          _mm512_set1_ps(p->multiplier), ek_requant_avx512vnni_init(&p->clamp)};
    (void)scratch;

    if (has_one_factor_row(&p->shape)) {
        mul_columns(&v, &p->shape, in, out, range);
        return;
    }
    for (int32_t row = range->row; row < range->row_end; row++) {
        const ek_broadcast_row at = ek_broadcast_at(&p->shape, in, out, row);
        int32_t i = range->ch;
        for (; range->ch_end - i >= BYTES; i += BYTES)
            mul_block(&v, &at, i, ~(__mmask64)0);
        if (i < range->ch_end)
            mul_block(&v, &at, i, first_values(range->ch_end - i));
    }
}
