/* SPDX-License-Identifier: Apache-2.0
 *
 * int8 to float32, sixteen values at a time.
 */
#include "../kernels.h"
#include "../walk.h"
#include "blocks_neon.h"

INLINE void dequantize(const int8_t *x, int8x16_t zero, float32x4_t scale, float *y)
{
    const float16 v = times(to_float(subtract(vld1q_s8(x), zero)), scale);
    for (int i = 0; i < 4; i++)
        vst1q_f32(y + 4 * i, v.v[i]);
}

/* `count` values, less than a block or not side by side. */
static void dequantize_some(const int8_t *x, ptrdiff_t x_step, float *y, ptrdiff_t y_step,
                            int32_t count, int8x16_t zero, float32x4_t scale)
{
    int8_t from[BLOCK] = {0};
    float to[BLOCK];
    for (int32_t i = 0; i < count; i++)
        from[i] = x[i * x_step];
    dequantize(from, zero, scale, to);
    for (int32_t i = 0; i < count; i++)
        y[i * y_step] = to[i];
}

void ek_dequantize_neon(const void *params, const void *const in[], void *out, void *scratch,
                        const ek_range *range)
{
    const ek_quantize_params *p = params;
    const int8x16_t zero = vdupq_n_s8((int8_t)p->clamp.zero);
    const float32x4_t scale = vdupq_n_f32(p->scale);
    ek_walk walk = ek_walk_begin(p->rank, p->dims, range);
    const int32_t last = walk.rank - 1;
    (void)scratch;

    ek_walk_to_contiguous(&walk, p->in_stride, p->dims);
    ek_walk_order(&walk);
    const ptrdiff_t x_step = walk.stride[EK_WALK_IN][last], y_step = walk.stride[EK_WALK_OUT][last];
    do {
        const int8_t *x = (const int8_t *)in[0] + walk.at[EK_WALK_IN];
        float *y = (float *)out + walk.at[EK_WALK_OUT];
        int32_t left = walk.dims[last];
        for (; left > 0; left -= BLOCK, x += BLOCK * x_step, y += BLOCK * y_step) {
            if (left >= BLOCK && x_step == 1 && y_step == 1)
                dequantize(x, zero, scale, y);
            else
                dequantize_some(x, x_step, y, y_step, left < BLOCK ? left : BLOCK, zero, scale);
        }
    } while (ek_walk_next(&walk));
}
