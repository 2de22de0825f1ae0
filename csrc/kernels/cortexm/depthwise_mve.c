/* SPDX-License-Identifier: Apache-2.0
 *
 * Depthwise convolution with Helium: eight channels at a time, their products in two vectors of
 * int32.
 */
#include "../kernels.h"
#include "../window.h"
#include "mve.h"

#define LANES 8

/* Products of even and of odd channels. */
typedef struct sums {
    int32x4_t even, odd;
} sums;

static inline sums add_tap(sums s, int16x8_t x, int16x8_t w)
{
    s.even = vaddq_s32(s.even, vmullbq_int_s16(x, w));
    s.odd = vaddq_s32(s.odd, vmulltq_int_s16(x, w));
    return s;
}

/* Eight channels, or with `whole` 0 those of `lanes`: what does not change from pixel to pixel. */
typedef struct block {
    const ek_conv_params *p;
    const int8_t *weights;
    mve_pred16_t lanes;
    sums start; /* of windows inside the input */
    sums bias;  /* of others, whose sums are over x - x_zero */
    float32x4_t even, odd; /* multipliers */
} block;

static inline __attribute__((always_inline)) int16x8_t load(const int8_t *from, mve_pred16_t lanes,
                                                            int whole)
{
    return whole ? vldrbq_s16(from) : vldrbq_z_s16(from, lanes);
}

static block block_at(const ek_conv_params *p, int32_t channel, int32_t count)
{
    int32_t start[LANES] = {0};
    float multiplier[LANES] = {0};
    const int8_t *weights = p->weights.data + channel;
    for (int32_t i = 0; i < ek_min(count, LANES); i++) {
        start[i] = p->start[channel + i];
        multiplier[i] = p->multiplier[channel + i];
    }
    const int32x4x2_t starts = vld2q_s32(start);
    const float32x4x2_t multipliers = vld2q_f32(multiplier);
    block b = {.p = p, .weights = weights, .lanes = vctp16q((uint32_t)count)};
    b.start = b.bias = (sums){starts.val[0], starts.val[1]};
    b.even = multipliers.val[0];
    b.odd = multipliers.val[1];
    const int16x8_t zero = vdupq_n_s16((int16_t)p->x_zero);
    for (int32_t i = 0; i < p->kernel_h * p->kernel_w; i++)
        b.bias = add_tap(b.bias, zero, vldrbq_z_s16(weights + (ptrdiff_t)i * p->out.c, b.lanes));
    return b;
}

static inline __attribute__((always_inline)) void finish(const block *b, sums s, int8_t *y,
                                                         int whole)
{
    const int32x4_t even = ek_mve_requantize(s.even, b->even, &b->p->clamp);
    const int32x4_t odd = ek_mve_requantize(s.odd, b->odd, &b->p->clamp);
    const int16x8_t both = vmovntq_s32(vmovnbq_s32(vdupq_n_s16(0), even), odd);
    if (whole)
        vstrbq_s16(y, both);
    else
        vstrbq_p_s16(y, both, b->lanes);
}

/* The taps inside the input. */
static inline __attribute__((always_inline)) void pixel(const block *b, const int8_t *image,
                                                        int32_t h, ek_taps rows, int32_t w,
                                                        int8_t *y, int whole)
{
    const ek_conv_params *p = b->p;
    const ek_taps cols = ek_taps_inside(w, p->kernel_w, p->dilation_w, p->in.w);
    const int16x8_t zero = vdupq_n_s16((int16_t)p->x_zero);
    const ptrdiff_t step = (ptrdiff_t)p->dilation_w * p->in.w_stride, c = p->out.c;
    sums s = b->bias;
    const int8_t *tap_line = b->weights + (rows.first * p->kernel_w + cols.first) * c;
    const int8_t *x_line = image
        + ek_image_at(&p->in, 0, h + rows.first * p->dilation_h, w + cols.first * p->dilation_w);
    for (int32_t kh = rows.first; kh < rows.end; kh++) {
        const int8_t *x = x_line, *tap = tap_line;
        for (int32_t kw = cols.end - cols.first; kw > 0; kw--, x += step, tap += c)
            s = add_tap(s, vsubq_s16(load(x, b->lanes, whole), zero), load(tap, b->lanes, whole));
        x_line += (ptrdiff_t)p->dilation_h * p->in.h_stride;
        tap_line += p->kernel_w * c;
    }
    finish(b, s, y, whole);
}

/* Two pixels whose windows are inside the input share the weights. `x` is the first one's first
 * value. */
static void pair(const block *b, const int8_t *x, int8_t *y)
{
    const ek_conv_params *p = b->p;
    const ptrdiff_t step = (ptrdiff_t)p->dilation_w * p->in.w_stride, c = p->out.c;
    const ptrdiff_t line = (ptrdiff_t)p->dilation_h * p->in.h_stride;
    const ptrdiff_t between = (ptrdiff_t)p->stride_w * p->in.w_stride;
    const int8_t *tap = b->weights;
    sums s0 = b->start, s1 = b->start;
    for (int32_t kh = p->kernel_h; kh > 0; kh--, x += line) {
        const int8_t *x0 = x, *x1 = x + between;
        for (int32_t kw = p->kernel_w; kw > 0; kw--, x0 += step, x1 += step, tap += c) {
            const int16x8_t w = vldrbq_s16(tap);
            s0 = add_tap(s0, vldrbq_s16(x0), w);
            s1 = add_tap(s1, vldrbq_s16(x1), w);
        }
    }
    finish(b, s0, y, 1);
    finish(b, s1, y + p->out.w_stride, 1);
}

/* Columns [first, end) have windows inside the input, as far as width goes. */
static ek_taps inner_columns(const ek_conv_params *p)
{
    const int32_t extent = (p->kernel_w - 1) * p->dilation_w;
    const int32_t last = p->in.w - 1 - extent + p->pad_left;
    const int32_t first = (p->pad_left + p->stride_w - 1) / p->stride_w;
    return (ek_taps){first, last < 0 ? 0 : last / p->stride_w + 1};
}

static void row(const block *b, const int8_t *image, int32_t oh, const ek_range *range, int8_t *y,
                int whole)
{
    const ek_conv_params *p = b->p;
    const int32_t h = oh * p->stride_h - p->pad_top;
    const int inside = whole && h >= 0 && h + (p->kernel_h - 1) * p->dilation_h < p->in.h;
    const ek_taps inner = inner_columns(p);
    const ek_taps rows = ek_taps_inside(h, p->kernel_h, p->dilation_h, p->in.h);
    for (int32_t col = range->col; col < range->col_end;) {
        const int32_t w = col * p->stride_w - p->pad_left;
        if (inside && col >= inner.first && col + 1 < ek_min(inner.end, range->col_end)) {
            pair(b, image + ek_image_at(&p->in, 0, h, w), y);
            col += 2;
            y += 2 * (ptrdiff_t)p->out.w_stride;
            continue;
        }
        if (whole)
            pixel(b, image, h, rows, w, y, 1);
        else
            pixel(b, image, h, rows, w, y, 0);
        col++;
        y += p->out.w_stride;
    }
}

void ek_depthwise_mve(const void *params, const void *const in[], void *out, void *scratch,
                      const ek_range *range)
{
    const ek_conv_params *p = params;
    (void)scratch;

    for (int32_t c = range->ch; c < range->ch_end; c += LANES) {
        const block b = block_at(p, c, range->ch_end - c);
        for (int32_t r = range->row; r < range->row_end; r++) {
            const int32_t n = r / p->out.h, oh = r % p->out.h;
            row(&b, (const int8_t *)in[0] + ek_image_at(&p->in, n, 0, 0) + c, oh, range,
                (int8_t *)out + ek_image_at(&p->out, n, oh, range->col) + c,
                range->ch_end - c >= LANES);
        }
    }
}

int ek_depthwise_mve_supports(const void *params)
{
    const ek_conv_params *p = params;
    return p->out.c == p->in.c;
}
