/* SPDX-License-Identifier: Apache-2.0
 *
 * Body of mul_sse41.c, mul_avx2.c and mul_avx512vnni.c.
 */
#include "../broadcast.h"
#include "../kernels.h"
#include "vector.h"

/* An operand's values, or one value for all channels. */
static inline vint operand(const int8_t *x, int32_t stride, int32_t i, int32_t count)
{
    return stride == 0 ? v_set(*x) : v_load_i8_n(x + i, count);
}

void VECTOR_NAME(ek_mul)(const void *params, const void *const in[], void *out, void *scratch,
                         const ek_range *range)
{
    const ek_mul_params *p = params;
    const requant r = requant_init(&p->clamp);
    const vint a_zero = v_set(p->a_zero), b_zero = v_set(p->b_zero);
    const vfloat multiplier = v_setf(p->multiplier);
    (void)scratch;

    for (int32_t row = range->row; row < range->row_end; row++) {
        const ek_broadcast_row at = ek_broadcast_at(&p->shape, in, out, row);
        for (int32_t i = range->ch; i < range->ch_end; i += LANES) {
            const int32_t count = range->ch_end - i;
            const vint a = v_sub(operand(at.a, at.a_stride, i, count), a_zero);
            const vint b = v_sub(operand(at.b, at.b_stride, i, count), b_zero);
            const vfloat product = v_to_float(v_mul(a, b));
            v_store_i8_n(at.y + i, v_round(v_mulf(product, multiplier), &r), &r, count);
        }
    }
}
