/* SPDX-License-Identifier: Apache-2.0
 *
 * Body of add_sse41.c, add_avx2.c and add_avx512vnni.c.
 */
#include "../broadcast.h"
#include "../kernels.h"
#include "vector.h"

/* An operand's values, or one value for all channels. */
static inline vint operand(const int8_t *x, int32_t stride, int32_t i, int32_t count)
{
    return stride == 0 ? v_set(*x) : v_load_i8_n(x + i, count);
}

/* What all values share. */
typedef struct add_values {
    vint a_zero, b_zero;
    vfloat a_multiplier, b_multiplier;
    requant r;
} add_values;

/* `count` values from channel i on; a constant LANES takes no masks. */
static inline __attribute__((always_inline)) void add_block(const add_values *v,
                                                            const ek_broadcast_row *at, int32_t i,
                                                            int32_t count)
{
    const vint a = v_sub(operand(at->a, at->a_stride, i, count), v->a_zero);
    const vint b = v_sub(operand(at->b, at->b_stride, i, count), v->b_zero);
    const vfloat sum =
        v_addf(v_mulf(v->a_multiplier, v_to_float(a)), v_mulf(v->b_multiplier, v_to_float(b)));
    v_store_i8_n(at->y + i, v_round(sum, &v->r), &v->r, count);
}

void VECTOR_NAME(ek_add)(const void *params, const void *const in[], void *out, void *scratch,
                         const ek_range *range)
{
    const ek_add_params *p = params;
    const add_values v = {v_set(p->a_zero), v_set(p->b_zero), v_setf(p->a_multiplier),
                          v_setf(p->b_multiplier), requant_init(&p->clamp)};
    (void)scratch;

    for (int32_t row = range->row; row < range->row_end; row++) {
        const ek_broadcast_row at = ek_broadcast_at(&p->shape, in, out, row);
        int32_t i = range->ch;
        for (; range->ch_end - i >= LANES; i += LANES)
            add_block(&v, &at, i, LANES);
        if (i < range->ch_end)
            add_block(&v, &at, i, range->ch_end - i);
    }
}
