/* SPDX-License-Identifier: Apache-2.0
 *
 * Body of dequantize_sse41.c, dequantize_avx2.c and dequantize_avx512vnni.c.
 */
#include "../kernels.h"
#include "../walk.h"
#include "vector.h"

static inline vint load_strided(const int8_t *x, ptrdiff_t step, int32_t count)
{
    int8_t buffer[LANES] = {0};
    if (step == 1)
        return v_load_i8_n(x, count);
    for (int32_t i = 0; i < count && i < LANES; i++)
        buffer[i] = x[i * step];
    return v_load_i8(buffer);
}

static inline void store_strided(float *y, ptrdiff_t step, vfloat real, int32_t count)
{
    float buffer[LANES];
    if (step == 1) {
        v_storef_n(y, real, count);
        return;
    }
    v_storef(buffer, real);
    for (int32_t i = 0; i < count && i < LANES; i++)
        y[i * step] = buffer[i];
}

void VECTOR_NAME(ek_dequantize)(const void *params, const void *const in[], void *out,
                                void *scratch, const ek_range *range)
{
    const ek_quantize_params *p = params;
    const vfloat scale = v_setf(p->scale);
    const vint zero = v_set(p->clamp.zero);
    ek_walk walk = ek_walk_begin(p->rank, p->dims, range);
    const int32_t last = walk.rank - 1;
    (void)scratch;

    ek_walk_to_contiguous(&walk, p->in_stride, p->dims);
    ek_walk_order(&walk);
    const ptrdiff_t x_step = walk.stride[EK_WALK_IN][last], y_step = walk.stride[EK_WALK_OUT][last];
    do {
        const int8_t *x = (const int8_t *)in[0] + walk.at[EK_WALK_IN];
        float *y = (float *)out + walk.at[EK_WALK_OUT];
        for (int32_t i = 0; i < walk.dims[last]; i += LANES) {
            const int32_t count = walk.dims[last] - i;
            const vint q = v_sub(load_strided(x + i * x_step, x_step, count), zero);
            store_strided(y + i * y_step, y_step, v_mulf(v_to_float(q), scale), count);
        }
    } while (ek_walk_next(&walk));
}
