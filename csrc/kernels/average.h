/* SPDX-License-Identifier: Apache-2.0
 *
 * Windows and divisors of average pooling.
 */
#ifndef EK_AVERAGE_H
#define EK_AVERAGE_H

#include "window.h"

typedef struct ek_average_window {
    int32_t h, w;       /* of tap (0, 0) in the input */
    ek_taps rows, cols; /* inside the input */
    int32_t offset;     /* x_zero times the taps inside, to be taken from their sum */
    float multiplier;   /* x_scale / (y_scale * n); infinite where n is 0 */
} ek_average_window;

static inline ek_average_window ek_average_at(const ek_pool_params *p, int32_t oh, int32_t ow)
{
    ek_average_window win;
    win.h = oh * p->stride_h - p->pad_top;
    win.w = ow * p->stride_w - p->pad_left;
    win.rows = ek_taps_inside(win.h, p->kernel_h, p->dilation_h, p->in.h);
    win.cols = ek_taps_inside(win.w, p->kernel_w, p->dilation_w, p->in.w);
    const uint32_t inside =
        (uint32_t)(win.rows.end - win.rows.first) * (uint32_t)(win.cols.end - win.cols.first);
    uint32_t n = inside;
    if (p->count_include_pad) {
        const ek_taps rows = ek_taps_inside(win.h + p->pad_top, p->kernel_h, p->dilation_h,
                                            p->pad_top + p->in.h + p->pad_bottom);
        const ek_taps cols = ek_taps_inside(win.w + p->pad_left, p->kernel_w, p->dilation_w,
                                            p->pad_left + p->in.w + p->pad_right);
        n = (uint32_t)(rows.end - rows.first) * (uint32_t)(cols.end - cols.first);
    }
    win.offset = (int32_t)(inside * (uint32_t)p->x_zero);
    win.multiplier = p->x_scale / (p->y_scale * (float)n);
    return win;
}

#endif /* EK_AVERAGE_H */
