/* SPDX-License-Identifier: Apache-2.0
 *
 * Strided copy: transpose, slice, concat.
 */
#include <string.h>

#include "../kernels.h"
#include "../walk.h"

/* A dimension; strides in bytes. */
typedef struct dimension {
    int32_t count;
    ptrdiff_t y_step, x_step;
} dimension;

static dimension dimension_of(const ek_walk *walk, int32_t d, int32_t bytes)
{
    return (dimension){walk->dims[d], walk->stride[EK_WALK_OUT][d] * bytes,
                       walk->stride[EK_WALK_IN][d] * bytes};
}

/* `count` elements of `bytes` bytes. */
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

/* The two innermost dimensions. Runs of 64 bytes, as heads of attention have them, are copied here:
 * a call costs more than they do. */
static void copy_plane(uint8_t *y, const uint8_t *x, const dimension *outer,
                       const dimension *inner, int32_t bytes)
{
    const int whole = inner->y_step == bytes && inner->x_step == bytes;
    if (whole && inner->count == 64 / bytes) {
        for (int32_t i = 0; i < outer->count; i++, y += outer->y_step, x += outer->x_step)
            memcpy(y, x, 64);
        return;
    }
    for (int32_t i = 0; i < outer->count; i++, y += outer->y_step, x += outer->x_step)
        copy_run(y, inner->y_step, x, inner->x_step, inner->count, bytes);
}

void ek_copy_scalar(const void *params, const void *const in[], void *out, void *scratch,
                    const ek_range *range)
{
    const ek_copy_params *p = params;
    const int32_t bytes = p->element_bytes;
    ek_walk walk = ek_walk_begin(p->rank, p->dims, range);
    dimension inner, outer = {1, 0, 0};
    (void)scratch;

    ek_walk_position(&walk, EK_WALK_IN, p->in_stride, p->in_offset);
    ek_walk_position(&walk, EK_WALK_OUT, p->out_stride, p->out_offset);
    ek_walk_order(&walk);
    inner = dimension_of(&walk, walk.rank - 1, bytes);
    if (walk.rank > 1) { /* the walk steps over two dimensions at once */
        walk.rank--;
        outer = dimension_of(&walk, walk.rank - 1, bytes);
    }
    do {
        copy_plane((uint8_t *)out + walk.at[EK_WALK_OUT] * bytes,
                   (const uint8_t *)in[0] + walk.at[EK_WALK_IN] * bytes, &outer, &inner, bytes);
    } while (ek_walk_next(&walk));
}
