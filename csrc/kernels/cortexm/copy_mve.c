/* SPDX-License-Identifier: Apache-2.0
 *
 * Strided copy of bytes with Helium, sixteen at a time: transpose, slice, concat.
 */
#include <string.h>

#include "../kernels.h"
#include "../walk.h"
#include "mve.h"

#define LANES 16
#define MAX_STEP (UINT8_MAX / (LANES - 1)) /* offsets have 8 bits */

static int is_near(ptrdiff_t step)
{
    return step > 0 && step <= MAX_STEP;
}

/* `count` bytes, x_step and y_step apart, both near. */
static void copy_near(int8_t *y, ptrdiff_t y_step, const int8_t *x, ptrdiff_t x_step, int32_t count)
{
    const uint8x16_t index = vidupq_n_u8(0, 1);
    const uint8x16_t x_offsets = vmulq_n_u8(index, (uint8_t)x_step);
    const uint8x16_t y_offsets = vmulq_n_u8(index, (uint8_t)y_step);
    for (; count > 0; count -= LANES, x += LANES * x_step, y += LANES * y_step) {
        const mve_pred16_t lanes = vctp8q((uint32_t)count);
        vstrbq_scatter_offset_p_s8(y, y_offsets, vldrbq_gather_offset_z_s8(x, x_offsets, lanes),
                                   lanes);
    }
}

static void copy_run(int8_t *y, ptrdiff_t y_step, const int8_t *x, ptrdiff_t x_step, int32_t count)
{
    if (x_step == 1 && y_step == 1)
        memcpy(y, x, (size_t)count);
    else if (is_near(x_step) && is_near(y_step))
        copy_near(y, y_step, x, x_step, count);
    else
        for (int32_t i = 0; i < count; i++)
            y[i * y_step] = x[i * x_step];
}

void ek_copy_mve(const void *params, const void *const in[], void *out, void *scratch,
                 const ek_range *range)
{
    const ek_copy_params *p = params;
    ek_walk walk = ek_walk_begin(p->rank, p->dims, range);
    const int32_t last = walk.rank - 1;
    (void)scratch;

    ek_walk_position(&walk, EK_WALK_IN, p->in_stride, p->in_offset);
    ek_walk_position(&walk, EK_WALK_OUT, p->out_stride, p->out_offset);
    ek_walk_order(&walk);
    do
        copy_run((int8_t *)out + walk.at[EK_WALK_OUT], walk.stride[EK_WALK_OUT][last],
                 (const int8_t *)in[0] + walk.at[EK_WALK_IN], walk.stride[EK_WALK_IN][last],
                 walk.dims[last]);
    while (ek_walk_next(&walk));
}

int ek_copy_mve_supports(const void *params)
{
    const ek_copy_params *p = params;
    return p->element_bytes == 1;
}
