/* SPDX-License-Identifier: Apache-2.0
 *
 * float32 to int8 with Helium, four values at a time: a division, as ONNX's QuantizeLinear, which
 * the scalar registers of a vector do.
 */
#include "../kernels.h"
#include "../walk.h"
#include "mve.h"

#define LANES 4
#define INFINITY_BITS 0x7f800000

/* x / scale; NaN, which would round to zero, becomes a value below all others. What is NaN is found
 * in the bits: clang 22 drops a comparison of a vector with itself. */
static inline float32x4_t divide(float32x4_t x, float scale)
{
    register float32x4_t q __asm__("q0") = x;
    __asm__("vdiv.f32 s0, s0, %1\n\t"
            "vdiv.f32 s1, s1, %1\n\t"
            "vdiv.f32 s2, s2, %1\n\t"
            "vdiv.f32 s3, s3, %1"
            : "+w"(q)
            : "t"(scale));
    const int32x4_t magnitude = vreinterpretq_s32_f32(vabsq_f32(q));
    return vpselq_f32(vdupq_n_f32(-1e9f), q, vcmpgtq_n_s32(magnitude, INFINITY_BITS));
}

/* `count` values, x_step and y_step apart. */
static void quantize(const ek_quantize_params *p, const float *x, ptrdiff_t x_step, int8_t *y,
                     ptrdiff_t y_step, int32_t count)
{
    const uint32x4_t index = vidupq_n_u32(0, 1);
    const uint32x4_t x_offsets = vmulq_n_u32(index, (uint32_t)x_step * sizeof *x);
    const uint32x4_t y_offsets = vmulq_n_u32(index, (uint32_t)y_step);
    for (; count > 0; count -= LANES, x += LANES * x_step, y += LANES * y_step) {
        const mve_pred16_t lanes = vctp32q((uint32_t)count);
        const float32x4_t v = divide(vldrwq_gather_offset_z_f32(x, x_offsets, lanes), p->scale);
        vstrbq_scatter_offset_p_s32(y, y_offsets, ek_mve_round(v, &p->clamp), lanes);
    }
}

void ek_quantize_mve(const void *params, const void *const in[], void *out, void *scratch,
                     const ek_range *range)
{
    const ek_quantize_params *p = params;
    ek_walk walk = ek_walk_begin(p->rank, p->dims, range);
    const int32_t last = walk.rank - 1;
    (void)scratch;

    ek_walk_to_contiguous(&walk, p->in_stride, p->dims);
    ek_walk_order(&walk);
    do
        quantize(p, (const float *)in[0] + walk.at[EK_WALK_IN], walk.stride[EK_WALK_IN][last],
                 (int8_t *)out + walk.at[EK_WALK_OUT], walk.stride[EK_WALK_OUT][last],
                 walk.dims[last]);
    while (ek_walk_next(&walk));
}
