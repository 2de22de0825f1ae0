/* SPDX-License-Identifier: Apache-2.0
 *
 * What quantize_sse41.c, quantize_avx2.c and quantize_avx512vnni.c share. The first two say
 * EK_QUANTIZE_KERNEL for a kernel of nothing else.
 */
#include "../kernels.h"
#include "../walk.h"
#include "vector.h"

static inline vfloat load_strided(const float *x, ptrdiff_t step, int32_t count)
{
    float buffer[LANES] = {0};
    if (step == 1)
        return v_loadf_n(x, count);
    for (int32_t i = 0; i < count && i < LANES; i++)
        buffer[i] = x[i * step];
    return v_loadf(buffer);
}

static inline void store_strided(int8_t *y, ptrdiff_t step, vint rounded, const requant *r,
                                 int32_t count)
{
    int8_t buffer[LANES];
    if (step == 1) {
        v_store_i8_n(y, rounded, r, count);
        return;
    }
    v_store_i8(buffer, rounded, r);
    for (int32_t i = 0; i < count && i < LANES; i++)
        y[i * step] = buffer[i];
}

static void quantize_rows(ek_walk *walk, const float *in, int8_t *out, vfloat scale,
                          const requant *r)
{
    const int32_t last = walk->rank - 1;
    ek_walk_order(walk);
    const ptrdiff_t x_step = walk->stride[EK_WALK_IN][last];
    const ptrdiff_t y_step = walk->stride[EK_WALK_OUT][last];
    do {
        const float *x = in + walk->at[EK_WALK_IN];
        int8_t *y = out + walk->at[EK_WALK_OUT];
        for (int32_t i = 0; i < walk->dims[last]; i += LANES) {
            const int32_t count = walk->dims[last] - i;
            const vfloat real = v_divf(load_strided(x + i * x_step, x_step, count), scale);
            store_strided(y + i * y_step, y_step, v_round(real, r), r, count);
        }
    } while (ek_walk_next(walk));
}

#ifdef EK_QUANTIZE_KERNEL
void VECTOR_NAME(ek_quantize)(const void *params, const void *const in[], void *out, void *scratch,
                              const ek_range *range)
{
    const ek_quantize_params *p = params;
    const requant r = requant_init(&p->clamp);
    ek_walk walk = ek_walk_begin(p->rank, p->dims, range);
    (void)scratch;

    ek_walk_to_contiguous(&walk, p->in_stride, p->dims);
    quantize_rows(&walk, in[0], out, v_setf(p->scale), &r);
}
#endif
