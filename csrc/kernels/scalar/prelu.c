/* SPDX-License-Identifier: Apache-2.0
 *
 * PRelu: one multiplier above the zero point, one per channel below.
 */
#include "../kernels.h"
#include "../requant.h"

void ek_prelu_scalar(const void *params, const void *const in[], void *out, void *scratch,
                     const ek_range *range)
{
    const ek_prelu_params *p = params;
    const ek_requant r = ek_requant_init(&p->clamp);
    (void)scratch;

    for (int32_t row = range->row; row < range->row_end; row++) {
        const int8_t *x = (const int8_t *)in[0] + (ptrdiff_t)row * p->c;
        int8_t *y = (int8_t *)out + (ptrdiff_t)row * p->c;
        for (int32_t i = range->ch; i < range->ch_end; i++) {
            const float m = x[i] >= p->x_zero ? p->multiplier : p->negative[i];
            y[i] = ek_round_clamped((float)(x[i] - p->x_zero) * m, &r);
        }
    }
}
