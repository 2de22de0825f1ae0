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

/* Taps, or windows, [first, end) of one dimension lie inside the input; first == end where none
 * does. */
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

/* Output columns of the range whose windows lie inside the input's width. */
static inline ek_taps ek_columns_inside(const ek_conv_params *p, const ek_range *range)
{
    const int32_t span = (p->kernel_w - 1) * p->dilation_w + 1;
    const int32_t last = p->in.w - span + p->pad_left;
    const int32_t first = p->pad_left > 0 ? ek_ceil_div(p->pad_left, p->stride_w) : 0;
    const int32_t end = last < 0 ? 0 : last / p->stride_w + 1;
    ek_taps cols;
    cols.first = ek_min(ek_max(first, range->col), range->col_end);
    cols.end = ek_min(ek_max(end, cols.first), range->col_end);
    return cols;
}

#endif /* EK_WINDOW_H */
