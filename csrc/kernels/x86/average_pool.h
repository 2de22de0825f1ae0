/* SPDX-License-Identifier: Apache-2.0
 *
 * Body of average_pool_sse41.c, average_pool_avx2.c and average_pool_avx512vnni.c.
 */
#include "../average.h"
#include "../kernels.h"
#include "vector.h"

/* Up to LANES channels of one window. */
static void block(const ek_pool_params *p, const requant *r, const ek_average_window *win,
                  const int8_t *image, int32_t count, int8_t *y)
{
    vint acc = v_sub(v_set(0), v_set(win->offset));
    for (int32_t kh = win->rows.first; kh < win->rows.end; kh++) {
        const int8_t *x = image
            + ek_image_at(&p->in, 0, win->h + kh * p->dilation_h,
                          win->w + win->cols.first * p->dilation_w);
        for (int32_t kw = win->cols.first; kw < win->cols.end; kw++) {
            acc = v_add(acc, v_load_i8_n(x, count));
            x += (ptrdiff_t)p->dilation_w * p->in.w_stride;
        }
    }
    v_store_i8_n(y, v_requantize(acc, v_setf(win->multiplier), r), r, count);
}

void VECTOR_NAME(ek_average_pool)(const void *params, const void *const in[], void *out,
                                  void *scratch, const ek_range *range)
{
    const ek_pool_params *p = params;
    const requant r = requant_init(&p->clamp);
    (void)scratch;

    for (int32_t row = range->row; row < range->row_end; row++) {
        const int32_t n = row / p->out.h, oh = row % p->out.h;
        const int8_t *image = (const int8_t *)in[0] + ek_image_at(&p->in, n, 0, 0);
        for (int32_t col = range->col; col < range->col_end; col++) {
            const ek_average_window win = ek_average_at(p, oh, col);
            int8_t *y = (int8_t *)out + ek_image_at(&p->out, n, oh, col);
            for (int32_t c = range->ch; c < range->ch_end; c += LANES)
                block(p, &r, &win, image + c, range->ch_end - c, y + c);
        }
    }
}
