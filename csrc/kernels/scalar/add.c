/* SPDX-License-Identifier: Apache-2.0
 *
 * Addition with broadcasting: one rounding per product and one for the sum.
 */
#include "../broadcast.h"
#include "../kernels.h"
#include "../requant.h"

void ek_add_scalar(const void *params, const void *const in[], void *out, void *scratch,
                   const ek_range *range)
{
    const ek_add_params *p = params;
    const ek_requant r = ek_requant_init(&p->clamp);
    const ek_sum sum = ek_sum_init(p->a_multiplier, p->b_multiplier);
    (void)scratch;

    for (int32_t row = range->row; row < range->row_end; row++) {
        const ek_broadcast_row at = ek_broadcast_at(&p->shape, in, out, row);
        for (int32_t i = range->ch; i < range->ch_end; i++) {
            const int32_t a = at.a[i * at.a_stride] - p->a_zero;
            const int32_t b = at.b[i * at.b_stride] - p->b_zero;
            at.y[i] = ek_requantize_sum(a, b, &sum, &r);
        }
    }
}
