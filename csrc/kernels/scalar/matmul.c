/* SPDX-License-Identifier: Apache-2.0
 *
 * Product of two activations.
 */
#include "../kernels.h"
#include "../requant.h"
#include "../window.h"

#define BLOCK 32 /* columns of b accumulated together */

/* Columns of `range` of one row, where a column of the product is a row of b. */
static void transposed_row(const ek_matmul_params *p, const ek_requant *r, const int8_t *a,
                           const int8_t *b, int8_t *y, const ek_range *range)
{
    for (int32_t n = range->ch; n < range->ch_end; n++) {
        const int8_t *b_row = b + (ptrdiff_t)n * p->k;
        uint32_t acc = 0;
        for (int32_t k = 0; k < p->k; k++)
            acc += (uint32_t)((a[k] - p->a_zero) * (b_row[k] - p->b_zero));
        y[n] = ek_requantize(acc, p->multiplier, r);
    }
}

static void plain_row(const ek_matmul_params *p, const ek_requant *r, const int8_t *a,
                      const int8_t *b, int8_t *y, const ek_range *range)
{
    for (int32_t n = range->ch; n < range->ch_end; n += BLOCK) {
        const int32_t count = ek_min(BLOCK, range->ch_end - n);
        uint32_t acc[BLOCK] = {0};
        for (int32_t k = 0; k < p->k; k++) {
            const int32_t av = a[k] - p->a_zero;
            const int8_t *b_row = b + (ptrdiff_t)k * p->n + n;
            for (int32_t i = 0; i < count; i++)
                acc[i] += (uint32_t)(av * (b_row[i] - p->b_zero));
        }
        for (int32_t i = 0; i < count; i++)
            y[n + i] = ek_requantize(acc[i], p->multiplier, r);
    }
}

void ek_matmul_scalar(const void *params, const void *const in[], void *out, void *scratch,
                      const ek_range *range)
{
    const ek_matmul_params *p = params;
    const ek_requant r = ek_requant_init(&p->clamp);
    (void)scratch;

    for (int32_t row = range->row; row < range->row_end; row++) {
        const int32_t batch = row / p->m, m = row % p->m;
        const int8_t *a = (const int8_t *)in[0] + (ptrdiff_t)batch * p->a_batch_stride
            + (ptrdiff_t)m * p->k;
        const int8_t *b = (const int8_t *)in[1] + (ptrdiff_t)batch * p->b_batch_stride;
        int8_t *y = (int8_t *)out + (ptrdiff_t)row * p->n;
        if (p->b_transposed)
            transposed_row(p, &r, a, b, y, range);
        else
            plain_row(p, &r, a, b, y, range);
    }
}
