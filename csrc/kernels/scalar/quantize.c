/* SPDX-License-Identifier: Apache-2.0
 *
 * float32 to int8: a division, as ONNX's QuantizeLinear.
 */
#include "../kernels.h"
#include "../requant.h"
#include "../walk.h"

void ek_quantize_scalar(const void *params, const void *const in[], void *out, void *scratch,
                        const ek_range *range)
{
    const ek_quantize_params *p = params;
    const ek_requant r = ek_requant_init(&p->clamp);
    ek_walk walk = ek_walk_begin(p->rank, p->dims, range);
    const int32_t last = walk.rank - 1;
    (void)scratch;

    ek_walk_to_contiguous(&walk, p->in_stride, p->dims);
    ek_walk_order(&walk);
    const ptrdiff_t x_step = walk.stride[EK_WALK_IN][last], y_step = walk.stride[EK_WALK_OUT][last];
    do {
        const float *x = (const float *)in[0] + walk.at[EK_WALK_IN];
        int8_t *y = (int8_t *)out + walk.at[EK_WALK_OUT];
        for (int32_t i = 0; i < walk.dims[last]; i++)
            y[i * y_step] = ek_round_clamped(x[i * x_step] / p->scale, &r);
    } while (ek_walk_next(&walk));
}
