/* SPDX-License-Identifier: Apache-2.0
 *
 * Max pooling; padding never wins.
 */
#include <string.h>

#include "../kernels.h"
#include "../window.h"

static void max_into(int8_t *y, const int8_t *x, int32_t count)
{
    for (int32_t i = 0; i < count; i++)
        y[i] = x[i] > y[i] ? x[i] : y[i];
}

void ek_max_pool_scalar(const void *params, const void *const in[], void *out, void *scratch,
                        const ek_range *range)
{
    const ek_pool_params *p = params;
    const int32_t count = range->ch_end - range->ch;
    (void)scratch;

    for (int32_t row = range->row; row < range->row_end; row++) {
        const int32_t n = row / p->out.h, oh = row % p->out.h;
        const int32_t h = oh * p->stride_h - p->pad_top;
        const ek_taps rows = ek_taps_inside(h, p->kernel_h, p->dilation_h, p->in.h);
        const int8_t *image = (const int8_t *)in[0] + ek_image_at(&p->in, n, 0, 0) + range->ch;
        for (int32_t col = range->col; col < range->col_end; col++) {
            const int32_t w = col * p->stride_w - p->pad_left;
            const ek_taps cols = ek_taps_inside(w, p->kernel_w, p->dilation_w, p->in.w);
            int8_t *y = (int8_t *)out + ek_image_at(&p->out, n, oh, col) + range->ch;
            memset(y, -128, (size_t)count);
            for (int32_t kh = rows.first; kh < rows.end; kh++)
                for (int32_t kw = cols.first; kw < cols.end; kw++)
                    max_into(y,
                             image + ek_image_at(&p->in, 0, h + kh * p->dilation_h,
                                                 w + kw * p->dilation_w),
                             count);
        }
    }
}
