/* SPDX-License-Identifier: Apache-2.0
 *
 * Body of max_pool_sse41.c, max_pool_avx2.c and max_pool_avx512vnni.c, which define BYTES, vbytes,
 * v_lowest, v_load, v_store and v_max. The last block of channels overlaps the one before it.
 */
#include "../kernels.h"
#include "../window.h"

/* Taps of a window that lie inside the input, and their distances. */
typedef struct pool_taps {
    int32_t rows, cols;
    ptrdiff_t row_step, col_step;
} pool_taps;

static inline __attribute__((always_inline)) vbytes highest(const int32_t rows, const int32_t cols,
                                                            const pool_taps *taps, const int8_t *x)
{
    vbytes max = v_lowest();
    for (int32_t i = 0; i < rows; i++, x += taps->row_step)
        for (int32_t j = 0; j < cols; j++)
            max = v_max(max, v_load(x + j * taps->col_step));
    return max;
}

/* 3x3 windows, the most frequent, without loops. */
static inline vbytes highest_of(const pool_taps *taps, const int8_t *x)
{
    return taps->rows == 3 && taps->cols == 3 ? highest(3, 3, taps, x)
                                              : highest(taps->rows, taps->cols, taps, x);
}

static inline void max_pool(const ek_pool_params *p, const int8_t *x, int8_t *out,
                            const ek_range *range)
{
    const int32_t span = (p->kernel_w - 1) * p->dilation_w + 1;
    for (int32_t row = range->row; row < range->row_end; row++) {
        const int32_t n = row / p->out.h, oh = row % p->out.h;
        const int32_t h = oh * p->stride_h - p->pad_top;
        const ek_taps rows = ek_taps_inside(h, p->kernel_h, p->dilation_h, p->in.h);
        for (int32_t col = range->col; col < range->col_end; col++) {
            const int32_t w = col * p->stride_w - p->pad_left;
            ek_taps cols = {0, p->kernel_w}; /* in most columns, which spares two divisions */
            if (w < 0 || w > p->in.w - span)
                cols = ek_taps_inside(w, p->kernel_w, p->dilation_w, p->in.w);
            const pool_taps taps = {rows.end - rows.first, cols.end - cols.first,
                                    (ptrdiff_t)p->dilation_h * p->in.h_stride,
                                    (ptrdiff_t)p->dilation_w * p->in.w_stride};
            const int8_t *first = x
                + ek_image_at(&p->in, n, h + rows.first * p->dilation_h,
                              w + cols.first * p->dilation_w);
            int8_t *y = out + ek_image_at(&p->out, n, oh, col);
            for (int32_t c = range->ch; c < range->ch_end; c += BYTES) {
                const int32_t at = ek_min(c, range->ch_end - BYTES);
                v_store(y + at, highest_of(&taps, first + at));
            }
        }
    }
}
