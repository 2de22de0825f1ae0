/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a convolution or pooling window meets its input.
 */
#ifndef EK_WINDOW_H
#define EK_WINDOW_H

#include "kernel.h"

static inline int32_t ek_min(int32_t a, int32_t b) { return a < b ? a : b; }
static inline int32_t ek_max(int32_t a, int32_t b) { return a > b ? a : b; }
/* a > 0 */
static inline int32_t ek_ceil_div(int32_t a, int32_t b) { return (a - 1) / b + 1; }

/* Offset of element (n, h, w, 0). */
static inline ptrdiff_t ek_image_at(const ek_image *image, int32_t n, int32_t h, int32_t w)
{
    return (ptrdiff_t)n * image->n_stride + (ptrdiff_t)h * image->h_stride
        + (ptrdiff_t)w * image->w_stride;
}

/* Taps [first, end) of one dimension lie inside the input; first == end where none does. */
typedef struct ek_taps {
    int32_t first, end;
} ek_taps;

/* Tap i of `kernel` reads position `origin` + i * `dilation` of `size`. */
static inline ek_taps ek_taps_inside(int32_t origin, int32_t kernel, int32_t dilation, int32_t size)
{
    ek_taps taps = {0, 0};
    if (origin < size) {
        taps.first = origin < 0 ? ek_ceil_div(-origin, dilation) : 0;
        taps.end = ek_min(kernel, ek_ceil_div(size - origin, dilation));
        taps.first = ek_min(taps.first, taps.end);
    }
    return taps;
}

#endif /* EK_WINDOW_H */
