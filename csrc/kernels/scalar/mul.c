/* SPDX-License-Identifier: Apache-2.0
 *
 * Elementwise product with broadcasting.
 */
#include "../broadcast.h"
#include "../kernels.h"
#include "../requant.h"

void ek_mul_scalar(const void *params, const void *const in[], void *out, void *scratch,
                   const ek_range *range)
{
    const ek_mul_params *p = params;
    const ek_requant r = ek_requant_init(&p->clamp);
    (void)scratch;

    for (int32_t row = range->row; row < range->row_end; row++) {
        const ek_broadcast_row at = ek_broadcast_at(&p->shape, in, out, row);
        for (int32_t i = range->ch; i < range->ch_end; i++) {
            const int32_t a = at.a[i * at.a_stride] - p->a_zero;
            const int32_t b = at.b[i * at.b_stride] - p->b_zero;
            at.y[i] = ek_requantize((uint32_t)(a * b), p->multiplier, &r);
        }
    }
}
