/* SPDX-License-Identifier: Apache-2.0
 *
 * Average pooling, global pooling and means over space, sixteen channels at a time. Sums are kept
 * in 16 bits for as many values as fit, then added to 32 bits.
 */
#include "../average.h"
#include "../kernels.h"
#include "blocks_neon.h"

#define FIT 256 /* values of -128 at most that a 16-bit sum holds */

typedef struct sums {
    int32x4_t v[4];
} sums;

INLINE sums add_sums(sums s, int16x16 partial)
{
    s.v[0] = vaddw_s16(s.v[0], vget_low_s16(partial.low));
    s.v[1] = addw_high(s.v[1], partial.low);
    s.v[2] = vaddw_s16(s.v[2], vget_low_s16(partial.high));
    s.v[3] = addw_high(s.v[3], partial.high);
    return s;
}

/* `count` channels (16: all of a block) of a row of `cols` taps. */
INLINE sums add_row(sums s, const int8_t *x, ptrdiff_t step, int32_t cols, int32_t count)
{
    while (cols > 0) {
        const int32_t end = cols > FIT ? cols - FIT : 0;
        int16x16 partial = {vdupq_n_s16(0), vdupq_n_s16(0)};
        for (; cols > end; cols--, x += step) {
            const int8x16_t v = load_block(x, count);
            partial.low = vaddw_s8(partial.low, vget_low_s8(v));
            partial.high = addw_high8(partial.high, v);
        }
        s = add_sums(s, partial);
    }
    return s;
}

INLINE void block(const ek_pool_params *p, const ek_requant_neon *r, const ek_average_window *win,
                  const int8_t *image, int32_t count, int8_t *y)
{
    const int32x4_t start = vdupq_n_s32((int32_t)(0u - (uint32_t)win->offset));
    const float32x4_t m = vdupq_n_f32(win->multiplier);
    const float32x4_t multipliers[4] = {m, m, m, m};
    const ptrdiff_t step = (ptrdiff_t)p->dilation_w * p->in.w_stride;
    sums s = {{start, start, start, start}};
    for (int32_t kh = win->rows.first; kh < win->rows.end; kh++)
        s = add_row(s,
                    image
                        + ek_image_at(&p->in, 0, win->h + kh * p->dilation_h,
                                      win->w + win->cols.first * p->dilation_w),
                    step, win->cols.end - win->cols.first, count);
    store_block(y, ek_requantize16_neon(s.v, multipliers, r), count);
}

void ek_average_pool_neon(const void *params, const void *const in[], void *out, void *scratch,
                          const ek_range *range)
{
    const ek_pool_params *p = params;
    const ek_requant_neon r = ek_requant_neon_init(&p->clamp);

    for (int32_t row = range->row; row < range->row_end; row++) {
        const int32_t n = row / p->out.h, oh = row % p->out.h;
        const int8_t *image = (const int8_t *)in[0] + ek_image_at(&p->in, n, 0, 0);
        for (int32_t col = range->col; col < range->col_end; col++) {
            const ek_average_window win = ek_average_at(p, oh, col);
            int8_t *y = (int8_t *)out + ek_image_at(&p->out, n, oh, col);
            int32_t c = range->ch;
            if (win.multiplier > FLT_MAX) { /* no positions: 0 times infinity, which is lo */
                const ek_range one = {row, row + 1, col, col + 1, range->ch, range->ch_end};
                ek_average_pool_scalar(params, in, out, scratch, &one);
                continue;
            }
            for (; c + BLOCK <= range->ch_end; c += BLOCK)
                block(p, &r, &win, image + c, BLOCK, y + c);
            if (c < range->ch_end)
                block(p, &r, &win, image + c, range->ch_end - c, y + c);
        }
    }
}
