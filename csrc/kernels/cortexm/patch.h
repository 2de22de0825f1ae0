/* SPDX-License-Identifier: Apache-2.0
 *
 * A convolution as a matrix product: the values under a window as one run of bytes.
 */
#ifndef EK_PATCH_H
#define EK_PATCH_H

#include <string.h>

#include "../window.h"

/* One group as a matrix: `channels` rows of `depth` values. */
typedef struct ek_patch_shape {
    int32_t channels, in_channels, depth;
} ek_patch_shape;

static inline ek_patch_shape ek_patch_shape_of(const ek_conv_params *p)
{
    ek_patch_shape s;
    s.channels = p->out.c / p->groups;
    s.in_channels = p->in.c / p->groups;
    s.depth = p->kernel_h * p->kernel_w * s.in_channels;
    return s;
}

/* The values under a window, with x_zero outside the input: in the input itself where they stand
 * there in one run, else copied to `patch`. `image` is at the group's first channel. */
static inline const int8_t *ek_patch(const ek_conv_params *p, const ek_patch_shape *s,
                                     const int8_t *image,
                                     int32_t row, int32_t col, int8_t *patch)
{
    const int32_t h = row % p->out.h * p->stride_h - p->pad_top;
    const int32_t w = col * p->stride_w - p->pad_left;
    const int32_t c = s->in_channels, line = p->kernel_w * c;
    const ek_taps rows = ek_taps_inside(h, p->kernel_h, p->dilation_h, p->in.h);
    const ek_taps cols = ek_taps_inside(w, p->kernel_w, p->dilation_w, p->in.w);
    const int32_t inside = cols.end - cols.first;
    const int dense = p->kernel_w == 1 || (p->dilation_w == 1 && p->in.w_stride == c);
    if (rows.end - rows.first < p->kernel_h || inside < p->kernel_w)
        memset(patch, p->x_zero, (size_t)s->depth);
    else if (p->kernel_h == 1 && dense)
        return image + ek_image_at(&p->in, 0, h, w);
    for (int32_t kh = rows.first; kh < rows.end && inside > 0; kh++) {
        int8_t *to = patch + kh * line + cols.first * c;
        const int8_t *from =
            image + ek_image_at(&p->in, 0, h + kh * p->dilation_h, w + cols.first * p->dilation_w);
        if (dense) {
            memcpy(to, from, (size_t)(inside * c));
            continue;
        }
        for (int32_t i = 0; i < inside; i++, to += c, from += p->dilation_w * p->in.w_stride)
            memcpy(to, from, (size_t)c);
    }
    return patch;
}

#endif /* EK_PATCH_H */
