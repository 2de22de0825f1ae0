/* SPDX-License-Identifier: Apache-2.0
 *
 * Body of max_pool_sse41.c, max_pool_avx2.c and max_pool_avx512vnni.c, which define BYTES, vbytes,
 * v_lowest, v_load, v_store and v_max. The last block of channels overlaps the one before it.
 */
#include "../kernels.h"
#include "../window.h"

static inline void block(const ek_pool_params *p, const int8_t *first, int32_t rows, int32_t cols,
                         int8_t *y)
{
    vbytes max = v_lowest();
    for (int32_t kh = 0; kh < rows; kh++) {
        const int8_t *x = first + (ptrdiff_t)kh * p->dilation_h * p->in.h_stride;
        for (int32_t kw = 0; kw < cols; kw++) {
            max = v_max(max, v_load(x));
            x += (ptrdiff_t)p->dilation_w * p->in.w_stride;
        }
    }
    v_store(y, max);
}

static inline void max_pool(const ek_pool_params *p, const int8_t *x, int8_t *out,
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
            for (int32_t c = range->ch; c < range->ch_end; c += BYTES) {
                const int32_t at = ek_min(c, range->ch_end - BYTES);
                block(p, first + at, rows.end - rows.first, cols.end - cols.first, y + at);
            }
        }
    }
}
