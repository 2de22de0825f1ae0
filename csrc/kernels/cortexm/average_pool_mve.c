/* SPDX-License-Identifier: Apache-2.0
 *
 * Average pooling, global pooling and means over space with Helium, eight channels at a time. Sums
 * are kept in 16 bits for as many values as fit, then added to 32 bits.
 */
#include <float.h>

#include "../average.h"
#include "../kernels.h"
#include "mve.h"

#define LANES 8
#define FIT 256 /* values of -128 at most that a 16-bit sum holds */

/* Sums of even and of odd channels. */
typedef struct sums {
    int32x4_t even, odd;
} sums;

/* A row of `cols` taps, `step` bytes apart. */
static inline sums add_row(sums s, const int8_t *x, ptrdiff_t step, int32_t cols,
                           mve_pred16_t lanes)
{
    while (cols > 0) {
        const int32_t end = cols > FIT ? cols - FIT : 0;
        int16x8_t some = vdupq_n_s16(0);
        for (; cols > end; cols--, x += step)
            some = vaddq_s16(some, vldrbq_z_s16(x, lanes));
        s.even = vaddq_s32(s.even, vmovlbq_s16(some));
        s.odd = vaddq_s32(s.odd, vmovltq_s16(some));
    }
    return s;
}

/* Up to eight channels of one output. */
static void block(const ek_pool_params *p, const ek_average_window *win, const int8_t *image,
                  int32_t count, int8_t *y)
{
    const mve_pred16_t lanes = vctp16q((uint32_t)count);
    const int32x4_t start = vdupq_n_s32((int32_t)(0u - (uint32_t)win->offset));
    const float32x4_t m = vdupq_n_f32(win->multiplier);
    const ptrdiff_t step = (ptrdiff_t)p->dilation_w * p->in.w_stride;
    const ptrdiff_t line = (ptrdiff_t)p->dilation_h * p->in.h_stride;
    const int8_t *x = image
        + ek_image_at(&p->in, 0, win->h + win->rows.first * p->dilation_h,
                      win->w + win->cols.first * p->dilation_w);
    int32_t rows = win->rows.end - win->rows.first, cols = win->cols.end - win->cols.first;
    sums s = {start, start};
    if (cols * step == line) { /* one row */
        cols *= rows;
        rows = 1;
    }
    for (; rows > 0; rows--, x += line)
        s = add_row(s, x, step, cols, lanes);
    const int16x8_t even = vmovnbq_s32(vdupq_n_s16(0), ek_mve_requantize(s.even, m, &p->clamp));
    vstrbq_p_s16(y, vmovntq_s32(even, ek_mve_requantize(s.odd, m, &p->clamp)), lanes);
}

void ek_average_pool_mve(const void *params, const void *const in[], void *out, void *scratch,
                         const ek_range *range)
{
    const ek_pool_params *p = params;
    (void)scratch;

    for (int32_t row = range->row; row < range->row_end; row++) {
        const int32_t n = row / p->out.h, oh = row % p->out.h;
        const int8_t *image = (const int8_t *)in[0] + ek_image_at(&p->in, n, 0, 0);
        for (int32_t col = range->col; col < range->col_end; col++) {
            const ek_average_window win = ek_average_at(p, oh, col);
            int8_t *y = (int8_t *)out + ek_image_at(&p->out, n, oh, col);
            if (win.multiplier > FLT_MAX) /* no positions: 0 times infinity, which is lo */
                ek_mve_fill(y + range->ch, p->clamp.lo, range->ch_end - range->ch);
            else
                for (int32_t c = range->ch; c < range->ch_end; c += LANES)
                    block(p, &win, image + c, range->ch_end - c, y + c);
        }
    }
}
