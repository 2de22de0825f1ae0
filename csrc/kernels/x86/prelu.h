/* SPDX-License-Identifier: Apache-2.0
 *
 * Body of prelu_sse41.c, prelu_avx2.c and prelu_avx512vnni.c.
 */
#include "../kernels.h"
#include "vector.h"

void VECTOR_NAME(ek_prelu)(const void *params, const void *const in[], void *out, void *scratch,
                           const ek_range *range)
{
    const ek_prelu_params *p = params;
    const requant r = requant_init(&p->clamp);
    const vint zero = v_set(p->x_zero);
    const vfloat multiplier = v_setf(p->multiplier);
    (void)scratch;

    for (int32_t row = range->row; row < range->row_end; row++) {
        const int8_t *x = (const int8_t *)in[0] + (ptrdiff_t)row * p->c;
        int8_t *y = (int8_t *)out + (ptrdiff_t)row * p->c;
        for (int32_t i = range->ch; i < range->ch_end; i += LANES) {
            const int32_t count = range->ch_end - i;
            const vint v = v_sub(v_load_i8_n(x + i, count), zero);
            const vfloat m = v_selectf(v, v_loadf_n(p->negative + i, count), multiplier);
            v_store_i8_n(y + i, v_round(v_mulf(v_to_float(v), m), &r), &r, count);
        }
    }
}
