/* SPDX-License-Identifier: Apache-2.0
 *
 * Average pooling: sums of four channels at a time in the halves of two words.
 */
#include "../average.h"
#include "../kernels.h"
#include "dsp.h"

#define QUAD 4
#define TAPS_LIMIT 255 /* sums of so many bytes fit 16 bits */

/* Adds bytes 0 and 2, or 1 and 3, of x to the halves of sums. */
static inline uint32_t add_even(uint32_t sums, uint32_t x)
{
    __asm__("sxtab16 %0, %0, %1" : "+r"(sums) : "r"(x));
    return sums;
}

static inline uint32_t add_odd(uint32_t sums, uint32_t x)
{
    __asm__("sxtab16 %0, %0, %1, ror #8" : "+r"(sums) : "r"(x));
    return sums;
}

/* The sums of a window's taps inside the input for four channels from `image` on. */
static void quad_sums(const ek_pool_params *p, const ek_average_window *win, const int8_t *image,
                      int32_t sums[QUAD])
{
    const ptrdiff_t step = (ptrdiff_t)p->dilation_w * p->in.w_stride;
    const int32_t count = win->cols.end - win->cols.first;
    uint32_t even = 0, odd = 0;
    for (int32_t kh = win->rows.first; kh < win->rows.end; kh++) {
        const int8_t *x = image + ek_image_at(&p->in, 0, win->h + kh * p->dilation_h,
                                              win->w + win->cols.first * p->dilation_w);
        for (int32_t i = count; i > 0; i--, x += step) {
            const uint32_t word = ek_dsp_load(x);
            even = add_even(even, word);
            odd = add_odd(odd, word);
        }
    }
    sums[0] = (int16_t)even;
    sums[1] = (int16_t)odd;
    sums[2] = (int32_t)even >> 16;
    sums[3] = (int32_t)odd >> 16;
}

void ek_average_pool_dsp(const void *params, const void *const in[], void *out, void *scratch,
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
            for (int32_t c = range->ch; c < range->ch_end; c += QUAD) {
                /* The last quad reaches back, so that its words end with the channels. */
                const int32_t quad = ek_min(c, p->in.c - QUAD);
                int32_t sums[QUAD];
                quad_sums(p, &win, image + quad, sums);
                for (int32_t i = c; i < ek_min(quad + QUAD, range->ch_end); i++)
                    y[i] = ek_requantize((uint32_t)(sums[i - quad] - win.offset),
                                         win.multiplier, &r);
            }
        }
    }
}

int ek_average_pool_dsp_supports(const void *params)
{
    const ek_pool_params *p = params;
    return p->in.c >= QUAD && p->kernel_h <= TAPS_LIMIT && p->kernel_h * p->kernel_w <= TAPS_LIMIT;
}
