/* SPDX-License-Identifier: Apache-2.0
 *
 * int8 to float32 with Helium, four values at a time. Scales are 2^-96 or more: no product is
 * subnormal, which vector instructions would flush to zero.
 */
#include "../kernels.h"
#include "../walk.h"
#include "mve.h"

#define LANES 4

/* `count` values, x_step and y_step apart. */
static void dequantize(const ek_quantize_params *p, const int8_t *x, ptrdiff_t x_step, float *y,
                       ptrdiff_t y_step, int32_t count)
{
    const uint32x4_t index = vidupq_n_u32(0, 1);
    const uint32x4_t x_offsets = vmulq_n_u32(index, (uint32_t)x_step);
    const uint32x4_t y_offsets = vmulq_n_u32(index, (uint32_t)y_step * sizeof *y);
    for (; count > 0; count -= LANES, x += LANES * x_step, y += LANES * y_step) {
        const mve_pred16_t lanes = vctp32q((uint32_t)count);
        const int32x4_t v = vldrbq_gather_offset_z_s32(x, x_offsets, lanes);
        const float32x4_t steps = vcvtq_f32_s32(vsubq_n_s32(v, p->clamp.zero));
        vstrwq_scatter_offset_p_f32(y, y_offsets, vmulq_n_f32(steps, p->scale), lanes);
    }
}

void ek_dequantize_mve(const void *params, const void *const in[], void *out, void *scratch,
                       const ek_range *range)
{
    const ek_quantize_params *p = params;
    ek_walk walk = ek_walk_begin(p->rank, p->dims, range);
    const int32_t last = walk.rank - 1;
    (void)scratch;

    ek_walk_to_contiguous(&walk, p->in_stride, p->dims);
    ek_walk_order(&walk);
    do
        dequantize(p, (const int8_t *)in[0] + walk.at[EK_WALK_IN], walk.stride[EK_WALK_IN][last],
                   (float *)out + walk.at[EK_WALK_OUT], walk.stride[EK_WALK_OUT][last],
                   walk.dims[last]);
    while (ek_walk_next(&walk));
}
