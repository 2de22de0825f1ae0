/* SPDX-License-Identifier: Apache-2.0
 *
 * Max pooling with Helium, sixteen channels at a time.
 */
#include "../kernels.h"
#include "../window.h"
#include "mve.h"

#define LANES 16

/* The taps inside the input of one output, for up to sixteen channels. */
static void block(const ek_pool_params *p, const int8_t *x, ek_taps rows, ek_taps cols,
                  int32_t count, int8_t *y)
{
    const mve_pred16_t lanes = vctp8q((uint32_t)count);
    const ptrdiff_t step = (ptrdiff_t)p->dilation_w * p->in.w_stride;
    const ptrdiff_t line = (ptrdiff_t)p->dilation_h * p->in.h_stride;
    int8x16_t max = vdupq_n_s8(-128);
    for (int32_t kh = rows.first; kh < rows.end; kh++, x += line) {
        const int8_t *tap = x;
        for (int32_t kw = cols.first; kw < cols.end; kw++, tap += step)
            max = vmaxq_s8(max, vldrbq_z_s8(tap, lanes));
    }
    vstrbq_p_s8(y, max, lanes);
}

void ek_max_pool_mve(const void *params, const void *const in[], void *out, void *scratch,
                     const ek_range *range)
{
    const ek_pool_params *p = params;
    (void)scratch;

    for (int32_t row = range->row; row < range->row_end; row++) {
        const int32_t n = row / p->out.h, oh = row % p->out.h;
        const int32_t h = oh * p->stride_h - p->pad_top;
        const ek_taps rows = ek_taps_inside(h, p->kernel_h, p->dilation_h, p->in.h);
        for (int32_t col = range->col; col < range->col_end; col++) {
            const int32_t w = col * p->stride_w - p->pad_left;
            const ek_taps cols = ek_taps_inside(w, p->kernel_w, p->dilation_w, p->in.w);
            const int8_t *x = (const int8_t *)in[0]
                + ek_image_at(&p->in, n, h + rows.first * p->dilation_h,
                              w + cols.first * p->dilation_w);
            int8_t *y = (int8_t *)out + ek_image_at(&p->out, n, oh, col);
            for (int32_t c = range->ch; c < range->ch_end; c += LANES)
                block(p, x + c, rows, cols, range->ch_end - c, y + c);
        }
    }
}
