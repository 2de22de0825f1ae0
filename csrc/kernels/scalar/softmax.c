/* SPDX-License-Identifier: Apache-2.0
 *
 * Softmax over the last dimension: a table of exp, an exact integer sum, one factor per row.
 */
#include "../kernels.h"
#include "../requant.h"

static int32_t max_of(const int8_t *x, int32_t count)
{
    int32_t max = x[0];
    for (int32_t i = 1; i < count; i++)
        max = x[i] > max ? x[i] : max;
    return max;
}

void ek_softmax_scalar(const void *params, const void *const in[], void *out, void *scratch,
                       const ek_range *range)
{
    const ek_softmax_params *p = params;
    const ek_requant r = ek_requant_init(&p->clamp);
    (void)scratch;

    for (int32_t row = range->row; row < range->row_end; row++) {
        const int8_t *x = (const int8_t *)in[0] + (ptrdiff_t)row * p->c;
        int8_t *y = (int8_t *)out + (ptrdiff_t)row * p->c;
        const int32_t max = max_of(x, p->c);
        uint32_t sum = 0;
        for (int32_t i = 0; i < p->c; i++)
            sum += p->table[max - x[i]];
        const float k = p->inverse_scale / (float)sum;
        for (int32_t i = 0; i < p->c; i++)
            y[i] = ek_round_clamped((float)p->table[max - x[i]] * k, &r);
    }
}
