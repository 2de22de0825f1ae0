/* SPDX-License-Identifier: Apache-2.0
 *
 * Depthwise convolution with a channel multiplier.
 */
#include "../kernels.h"
#include "../requant.h"
#include "../window.h"

#define BLOCK 32 /* output channels accumulated together */

/* acc[i] += x[channel of o + i] * w[i]; `x` is null outside the input. */
static void add_tap(const ek_conv_params *p, const int8_t *x, const int8_t *w, int32_t o,
                    int32_t count, uint32_t *acc)
{
    const int32_t multiple = p->out.c / p->in.c;
    if (!x) {
        for (int32_t i = 0; i < count; i++)
            acc[i] += (uint32_t)(p->x_zero * w[i]);
    } else if (multiple == 1) {
        for (int32_t i = 0; i < count; i++)
            acc[i] += (uint32_t)(x[o + i] * w[i]);
    } else {
        for (int32_t i = 0; i < count; i++)
            acc[i] += (uint32_t)(x[(o + i) / multiple] * w[i]);
    }
}

static void block(const ek_conv_params *p, const ek_requant *r, const int8_t *image, int32_t h,
                  int32_t w, int32_t o, int32_t count, int8_t *y)
{
    const ek_taps rows = ek_taps_inside(h, p->kernel_h, p->dilation_h, p->in.h);
    const ek_taps cols = ek_taps_inside(w, p->kernel_w, p->dilation_w, p->in.w);
    const int8_t *weights = p->weights.data + o;
    uint32_t acc[BLOCK];

    for (int32_t i = 0; i < count; i++)
        acc[i] = (uint32_t)p->start[o + i];
    for (int32_t kh = 0; kh < p->kernel_h; kh++) {
        const int row_inside = kh >= rows.first && kh < rows.end;
        for (int32_t kw = 0; kw < p->kernel_w; kw++, weights += p->out.c) {
            const int inside = row_inside && kw >= cols.first && kw < cols.end;
            const int8_t *x = !inside
                ? NULL
                : image + ek_image_at(&p->in, 0, h + kh * p->dilation_h, w + kw * p->dilation_w);
            add_tap(p, x, weights, o, count, acc);
        }
    }
    for (int32_t i = 0; i < count; i++)
        y[o + i] = ek_requantize(acc[i], p->multiplier[o + i], r);
}

void ek_depthwise_scalar(const void *params, const void *const in[], void *out, void *scratch,
                         const ek_range *range)
{
    const ek_conv_params *p = params;
    const ek_requant r = ek_requant_init(&p->clamp);
    (void)scratch;

    for (int32_t row = range->row; row < range->row_end; row++) {
        const int32_t n = row / p->out.h, oh = row % p->out.h;
        const int8_t *image = (const int8_t *)in[0] + ek_image_at(&p->in, n, 0, 0);
        for (int32_t col = range->col; col < range->col_end; col++) {
            int8_t *y = (int8_t *)out + ek_image_at(&p->out, n, oh, col);
            for (int32_t o = range->ch; o < range->ch_end; o += BLOCK)
                block(p, &r, image, oh * p->stride_h - p->pad_top, col * p->stride_w - p->pad_left,
                      o, ek_min(BLOCK, range->ch_end - o), y);
        }
    }
}
