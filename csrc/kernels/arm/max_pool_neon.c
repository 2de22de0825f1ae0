/* SPDX-License-Identifier: Apache-2.0
 *
 * Max pooling, sixteen channels at a time, or eight where there are fewer. The last block of
 * channels overlaps the one before it.
 */
#include "../kernels.h"
#include "../window.h"
#include "neon.h"

INLINE void block(const int lanes, const ek_pool_params *p, const int8_t *first, int32_t rows,
                  int32_t cols, int8_t *y)
{
    int8x16_t max = vdupq_n_s8(-128);
    for (int32_t kh = 0; kh < rows; kh++) {
        const int8_t *x = first + (ptrdiff_t)kh * p->dilation_h * p->in.h_stride;
        for (int32_t kw = 0; kw < cols; kw++) {
            max = vmaxq_s8(max, lanes == 16 ? vld1q_s8(x) : vcombine_s8(vld1_s8(x), vdup_n_s8(0)));
            x += (ptrdiff_t)p->dilation_w * p->in.w_stride;
        }
    }
    if (lanes == 16)
        vst1q_s8(y, max);
    else
        vst1_s8(y, vget_low_s8(max));
}

INLINE void max_pool(const int lanes, const ek_pool_params *p, const int8_t *x, int8_t *out,
                     const ek_range *range)
{
    for (int32_t row = range->row; row < range->row_end; row++) {
        const int32_t n = row / p->out.h, oh = row % p->out.h;
        const int32_t h = oh * p->stride_h - p->pad_top;
        const ek_taps rows = ek_taps_inside(h, p->kernel_h, p->dilation_h, p->in.h);
        for (int32_t col = range->col; col < range->col_end; col++) {
            const int32_t w = col * p->stride_w - p->pad_left;
            const ek_taps cols = ek_taps_inside(w, p->kernel_w, p->dilation_w, p->in.w);
            const int8_t *first = x
                + ek_image_at(&p->in, n, h + rows.first * p->dilation_h,
                              w + cols.first * p->dilation_w);
            int8_t *y = out + ek_image_at(&p->out, n, oh, col);
            for (int32_t c = range->ch; c < range->ch_end; c += lanes) {
                const int32_t at = ek_min(c, range->ch_end - lanes);
                block(lanes, p, first + at, rows.end - rows.first, cols.end - cols.first, y + at);
            }
        }
    }
}

void ek_max_pool_neon(const void *params, const void *const in[], void *out, void *scratch,
                      const ek_range *range)
{
    const int32_t channels = range->ch_end - range->ch;
    if (channels < 8)
        ek_max_pool_scalar(params, in, out, scratch, range);
    else if (channels < 16)
        max_pool(8, params, in[0], out, range);
    else
        max_pool(16, params, in[0], out, range);
}
