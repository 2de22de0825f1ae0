/* SPDX-License-Identifier: Apache-2.0
 *
 * Rows of a broadcast elementwise operator.
 */
#ifndef EK_BROADCAST_H
#define EK_BROADCAST_H

#include "kernel.h"

typedef struct ek_broadcast_row {
    const int8_t *a, *b; /* at channel 0 */
    int8_t *y;
    int32_t a_stride, b_stride; /* along the channels: 1, or 0 where one value repeats */
} ek_broadcast_row;

static inline ek_broadcast_row ek_broadcast_at(const ek_broadcast *shape, const void *const in[],
                                               void *out, int32_t row)
{
    const int32_t last = shape->rank - 1;
    ek_broadcast_row at;
    at.a = in[0];
    at.b = in[1];
    at.y = (int8_t *)out + (ptrdiff_t)row * shape->dims[last];
    at.a_stride = shape->a_stride[last];
    at.b_stride = shape->b_stride[last];
    for (int32_t d = last; d-- > 0;) {
        const int32_t index = row % shape->dims[d];
        row /= shape->dims[d];
        at.a += (ptrdiff_t)index * shape->a_stride[d];
        at.b += (ptrdiff_t)index * shape->b_stride[d];
    }
    return at;
}

#endif /* EK_BROADCAST_H */
