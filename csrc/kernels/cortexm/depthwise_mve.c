/* SPDX-License-Identifier: Apache-2.0
 *
 * Depthwise convolution with Helium: eight channels at a time, their products in two vectors of int32.
 */
#include <arm_mve.h>

#include "../kernels.h"
#include "../window.h"

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

static inline int32x4_t requantize(int32x4_t acc, float32x4_t multiplier, const ek_clamp *clamp)
{
    const float32x4_t v = vmulq_f32(vcvtq_f32_s32(acc), multiplier);
    int32x4_t q = vqaddq_n_s32(vcvtnq_s32_f32(v), clamp->zero);
    q = vmaxq_s32(q, vdupq_n_s32(clamp->lo));
    return vminq_s32(q, vdupq_n_s32(clamp->hi));
}

/* What does not change from pixel to pixel. */
typedef struct block {
    const ek_conv_params *p;
    int32_t channel;
    mve_pred16_t lanes;
    sums start;
    float32x4_t even, odd; /* multipliers */
} block;

/* Eight channels, or the `count` that there are. */
static block block_at(const ek_conv_params *p, int32_t channel, int32_t count)
{
    int32_t start[LANES] = {0};
    float multiplier[LANES] = {0};
    for (int32_t i = 0; i < ek_min(count, LANES); i++) {
        start[i] = p->start[channel + i];
        multiplier[i] = p->multiplier[channel + i];
    }
    const int32x4x2_t starts = vld2q_s32(start);
    const float32x4x2_t multipliers = vld2q_f32(multiplier);
    return (block){p, channel, vctp16q((uint32_t)count), {starts.val[0], starts.val[1]},
                   multipliers.val[0], multipliers.val[1]};
}

/* The window at (h, w); where all of it is inside the input, no tap is asked. */
static inline sums window(const block *b, const int8_t *image, int32_t h, int32_t w, int inside)
{
    const ek_conv_params *p = b->p;
    const int8_t *weights = p->weights.data + b->channel;
    const int16x8_t zero = vdupq_n_s16((int16_t)p->x_zero);
    sums s = b->start;
    for (int32_t kh = 0; kh < p->kernel_h; kh++) {
        const int32_t at_h = h + kh * p->dilation_h;
        const int8_t *x = image + ek_image_at(&p->in, 0, at_h, w);
        const ptrdiff_t step = (ptrdiff_t)p->dilation_w * p->in.w_stride;
        const int row_inside = at_h >= 0 && at_h < p->in.h;
        int32_t at_w = w;
        for (int32_t kw = 0; kw < p->kernel_w; kw++, x += step, weights += p->out.c) {
            const int16x8_t tap = vldrbq_z_s16(weights, b->lanes);
            if (inside || (row_inside && at_w >= 0 && at_w < p->in.w))
                s = add_tap(s, vldrbq_z_s16(x, b->lanes), tap);
            else
                s = add_tap(s, zero, tap);
            at_w += p->dilation_w;
        }
    }
    return s;
}

static void pixel(const block *b, const int8_t *image, int32_t h, int32_t w, int8_t *y)
{
    const ek_conv_params *p = b->p;
    const int inside = h >= 0 && w >= 0 && h + (p->kernel_h - 1) * p->dilation_h < p->in.h
        && w + (p->kernel_w - 1) * p->dilation_w < p->in.w;
    const sums s = inside ? window(b, image, h, w, 1) : window(b, image, h, w, 0);
    const int32x4_t even = requantize(s.even, b->even, &p->clamp);
    const int32x4_t odd = requantize(s.odd, b->odd, &p->clamp);
    const int16x8_t both = vmovntq_s32(vmovnbq_s32(vdupq_n_s16(0), even), odd);
    vstrbq_p_s16(y, both, b->lanes);
}

void ek_depthwise_mve(const void *params, const void *const in[], void *out, void *scratch,
                      const ek_range *range)
{
    const ek_conv_params *p = params;
    (void)scratch;

    for (int32_t c = range->ch; c < range->ch_end; c += LANES) {
        const block b = block_at(p, c, range->ch_end - c);
        for (int32_t row = range->row; row < range->row_end; row++) {
            const int32_t n = row / p->out.h, oh = row % p->out.h;
            const int8_t *image = (const int8_t *)in[0] + ek_image_at(&p->in, n, 0, 0) + c;
            int8_t *y = (int8_t *)out + ek_image_at(&p->out, n, oh, range->col) + c;
            for (int32_t col = range->col; col < range->col_end; col++, y += p->out.w_stride)
                pixel(&b, image, oh * p->stride_h - p->pad_top, col * p->stride_w - p->pad_left, y);
        }
    }
}

int ek_depthwise_mve_supports(const void *params)
{
    const ek_conv_params *p = params;
    return p->out.c == p->in.c;
}
