/* SPDX-License-Identifier: Apache-2.0
 *
 * float32 to int8, sixteen values at a time: a division, as ONNX's QuantizeLinear. ARMv7 has no
 * vector division; the quotients are scalar there.
 */
#include "../kernels.h"
#include "../walk.h"
#include "blocks_neon.h"

/* x / scale; NaN, which would round to zero, becomes a value below all others. */
INLINE float32x4_t divide(const float *x, float scale)
{
#ifdef __aarch64__
    const float32x4_t v = vdivq_f32(vld1q_f32(x), vdupq_n_f32(scale));
#else
    const float quotients[4] = {x[0] / scale, x[1] / scale, x[2] / scale, x[3] / scale};
    const float32x4_t v = vld1q_f32(quotients);
#endif
    return vbslq_f32(vceqq_f32(v, v), v, vdupq_n_f32(-1e9f));
}

INLINE int8x16_t quantize(const float *x, float scale, const ek_requant_neon *r)
{
    return round_block((float16){{divide(x, scale), divide(x + 4, scale), divide(x + 8, scale),
                                  divide(x + 12, scale)}},
                       r);
}

/* `count` values, less than a block or not side by side. */
static void quantize_some(const float *x, ptrdiff_t x_step, int8_t *y, ptrdiff_t y_step,
                          int32_t count, float scale, const ek_requant_neon *r)
{
    float from[BLOCK] = {0};
    int8_t to[BLOCK];
    for (int32_t i = 0; i < count; i++)
        from[i] = x[i * x_step];
    vst1q_s8(to, quantize(from, scale, r));
    for (int32_t i = 0; i < count; i++)
        y[i * y_step] = to[i];
}

void ek_quantize_neon(const void *params, const void *const in[], void *out, void *scratch,
                      const ek_range *range)
{
    const ek_quantize_params *p = params;
    const ek_requant_neon r = ek_requant_neon_init(&p->clamp);
    ek_walk walk = ek_walk_begin(p->rank, p->dims, range);
    const int32_t last = walk.rank - 1;
    (void)scratch;

    ek_walk_to_contiguous(&walk, p->in_stride, p->dims);
    ek_walk_order(&walk);
    const ptrdiff_t x_step = walk.stride[EK_WALK_IN][last], y_step = walk.stride[EK_WALK_OUT][last];
    do {
        const float *x = (const float *)in[0] + walk.at[EK_WALK_IN];
        int8_t *y = (int8_t *)out + walk.at[EK_WALK_OUT];
        int32_t left = walk.dims[last];
        for (; left > 0; left -= BLOCK, x += BLOCK * x_step, y += BLOCK * y_step) {
            if (left >= BLOCK && x_step == 1 && y_step == 1)
                vst1q_s8(y, quantize(x, p->scale, &r));
            else
                quantize_some(x, x_step, y, y_step, left < BLOCK ? left : BLOCK, p->scale, &r);
        }
    } while (ek_walk_next(&walk));
}
