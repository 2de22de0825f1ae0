/* SPDX-License-Identifier: Apache-2.0
 *
 * Layer normalization over the last dimension: exact integer sums, one factor per row.
 */
#include "../kernels.h"
#include "../layer_norm.h"
#include "../requant.h"

static float inverse_deviation(const ek_layer_norm_params *p, const int8_t *x, int32_t *sum)
{
    int32_t squares = 0;
    *sum = 0;
    for (int32_t i = 0; i < p->c; i++) {
        *sum += x[i];
        squares += x[i] * x[i];
    }
    return ek_inverse_deviation(p->c, *sum, squares, p->epsilon);
}

void ek_layer_norm_scalar(const void *params, const void *const in[], void *out, void *scratch,
                          const ek_range *range)
{
    const ek_layer_norm_params *p = params;
    const ek_requant r = ek_requant_init(&p->clamp);
    (void)scratch;

    for (int32_t row = range->row; row < range->row_end; row++) {
        const int8_t *x = (const int8_t *)in[0] + (ptrdiff_t)row * p->c;
        int8_t *y = (int8_t *)out + (ptrdiff_t)row * p->c;
        int32_t sum;
        const float k = inverse_deviation(p, x, &sum);
        for (int32_t i = 0; i < p->c; i++) {
            const float normal = (float)(p->c * x[i] - sum) * k;
            const float scaled = normal * p->gain[i];
            y[i] = ek_round_clamped(scaled + p->offset[i], &r);
        }
    }
}
