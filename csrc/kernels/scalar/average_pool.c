/* SPDX-License-Identifier: Apache-2.0
 *
 * Average pooling, global pooling and means over space: an exact sum, then one multiplier.
 */
#include "../average.h"
#include "../kernels.h"
#include "../requant.h"

#define BLOCK 32 /* channels accumulated together */

static void block(const ek_pool_params *p, const ek_requant *r, const ek_average_window *win,
                  const int8_t *image, int32_t count, int8_t *y)
{
    uint32_t acc[BLOCK];
    for (int32_t i = 0; i < count; i++)
        acc[i] = 0u - (uint32_t)win->offset;
    for (int32_t kh = win->rows.first; kh < win->rows.end; kh++) {
        for (int32_t kw = win->cols.first; kw < win->cols.end; kw++) {
            const int8_t *x = image + ek_image_at(&p->in, 0, win->h + kh * p->dilation_h,
                                                  win->w + kw * p->dilation_w);
            for (int32_t i = 0; i < count; i++)
                acc[i] += (uint32_t)(int32_t)x[i];
        }
    }
    for (int32_t i = 0; i < count; i++)
        y[i] = ek_requantize(acc[i], win->multiplier, r);
}

void ek_average_pool_scalar(const void *params, const void *const in[], void *out, void *scratch,
                            const ek_range *range)
{
    const ek_pool_params *p = params;
    const ek_requant r = ek_requant_init(&p->clamp);
    (void)scratch;

    for (int32_t row = range->row; row < range->row_end; row++) {
        const int32_t n = row / p->out.h, oh = row % p->out.h;
        const int8_t *image = (const int8_t *)in[0] + ek_image_at(&p->in, n, 0, 0);
        for (int32_t col = range->col; col < range->col_end; col++) {
            const ek_average_window win = ek_average_at(p, oh, col);
            int8_t *y = (int8_t *)out + ek_image_at(&p->out, n, oh, col);
            for (int32_t c = range->ch; c < range->ch_end; c += BLOCK)
                block(p, &r, &win, image + c, ek_min(BLOCK, range->ch_end - c), y + c);
        }
    }
}
