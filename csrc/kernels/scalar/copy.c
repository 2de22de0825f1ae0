/* SPDX-License-Identifier: Apache-2.0
 *
 * Strided copy: transpose, slice, concat.
 */
#include <string.h>

#include "../kernels.h"
#include "../walk.h"

/* `count` elements of `bytes` bytes; strides in bytes. */
static void copy_run(uint8_t *y, ptrdiff_t y_step, const uint8_t *x, ptrdiff_t x_step,
                     int32_t count, int32_t bytes)
{
    if (x_step == bytes && y_step == bytes) {
        memcpy(y, x, (size_t)count * (size_t)bytes);
    } else if (bytes == 1) {
        for (int32_t i = 0; i < count; i++)
            y[i * y_step] = x[i * x_step];
    } else if (bytes == 4) {
        for (int32_t i = 0; i < count; i++)
            memcpy(y + i * y_step, x + i * x_step, 4);
    } else {
        for (int32_t i = 0; i < count; i++)
            memcpy(y + i * y_step, x + i * x_step, (size_t)bytes);
    }
}

void ek_copy_scalar(const void *params, const void *const in[], void *out, void *scratch,
                    const ek_range *range)
{
    const ek_copy_params *p = params;
    const int32_t bytes = p->element_bytes;
    ek_walk walk = ek_walk_begin(p->rank, p->dims, range);
    const int32_t last = walk.rank - 1;
    (void)scratch;

    ek_walk_position(&walk, EK_WALK_IN, p->in_stride, p->in_offset);
    ek_walk_position(&walk, EK_WALK_OUT, p->out_stride, p->out_offset);
    ek_walk_order(&walk);
    do {
        copy_run((uint8_t *)out + walk.at[EK_WALK_OUT] * bytes,
                 walk.stride[EK_WALK_OUT][last] * bytes,
                 (const uint8_t *)in[0] + walk.at[EK_WALK_IN] * bytes,
                 walk.stride[EK_WALK_IN][last] * bytes, walk.dims[last], bytes);
    } while (ek_walk_next(&walk));
}
