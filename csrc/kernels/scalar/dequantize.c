/* SPDX-License-Identifier: Apache-2.0
 *
 * int8 to float32.
 */
#include "../kernels.h"
#include "../requant.h"
#include "../walk.h"

void ek_dequantize_scalar(const void *params, const void *const in[], void *out, void *scratch,
                          const ek_range *range)
{
    const ek_quantize_params *p = params;
    ek_walk walk = ek_walk_begin(p->rank, p->dims, range);
    const int32_t last = walk.rank - 1;
    (void)scratch;

    ek_walk_to_contiguous(&walk, p->in_stride, p->dims);
    ek_walk_order(&walk);
    const ptrdiff_t x_step = walk.stride[EK_WALK_IN][last], y_step = walk.stride[EK_WALK_OUT][last];
    do {
        const int8_t *x = (const int8_t *)in[0] + walk.at[EK_WALK_IN];
        float *y = (float *)out + walk.at[EK_WALK_OUT];
        for (int32_t i = 0; i < walk.dims[last]; i++)
            y[i * y_step] = (float)(x[i * x_step] - p->clamp.zero) * p->scale;
    } while (ek_walk_next(&walk));
}
