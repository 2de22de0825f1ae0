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

/* An output row. */
typedef struct pool_row {
    const int8_t *x; /* column 0 of the first row that its windows have inside the input */
    int8_t *y;       /* column 0 */
    int32_t rows;    /* inside */
} pool_row;

/* Columns [col, col_end). */
static inline void pool_columns(const ek_pool_params *p, const pool_row *row, int32_t col,
                                int32_t col_end, const ek_range *range)
{
    const int32_t span = (p->kernel_w - 1) * p->dilation_w + 1;
    for (; col < col_end; col++) {
        const int32_t w = col * p->stride_w - p->pad_left;
        ek_taps cols = {0, p->kernel_w}; /* in most columns, which spares two divisions */
        if (w < 0 || w > p->in.w - span)
            cols = ek_taps_inside(w, p->kernel_w, p->dilation_w, p->in.w);
        const pool_taps taps = {row->rows, cols.end - cols.first,
                                (ptrdiff_t)p->dilation_h * p->in.h_stride,
                                (ptrdiff_t)p->dilation_w * p->in.w_stride};
        const int8_t *first =
            row->x + (ptrdiff_t)(w + cols.first * p->dilation_w) * p->in.w_stride;
        int8_t *y = row->y + (ptrdiff_t)col * p->out.w_stride;
        for (int32_t c = range->ch; c < range->ch_end; c += BYTES) {
            const int32_t at = ek_min(c, range->ch_end - BYTES);
            v_store(y + at, highest_of(&taps, first + at));
        }
    }
}

/* A column of three rows. */
static inline vbytes highest_of_column(const int8_t *x, ptrdiff_t row_step)
{
    return v_max(v_max(v_load(x), v_load(x + row_step)), v_load(x + 2 * row_step));
}

/* The same of 3x3 windows with stride 2, all inside the input: neighbours share a column. */
static inline void pool_sliding(const ek_pool_params *p, const pool_row *row, int32_t col,
                                int32_t col_end, const ek_range *range)
{
    const ptrdiff_t row_step = p->in.h_stride, step = p->in.w_stride;
    for (int32_t c = range->ch; c < range->ch_end; c += BYTES) {
        const int32_t at = ek_min(c, range->ch_end - BYTES);
        const int8_t *x = row->x + (ptrdiff_t)(2 * col - p->pad_left) * step + at;
        int8_t *y = row->y + (ptrdiff_t)col * p->out.w_stride + at;
        vbytes shared = highest_of_column(x, row_step);
        for (int32_t i = col; i < col_end; i++, y += p->out.w_stride) {
            const vbytes middle = highest_of_column(x + step, row_step);
            x += 2 * step;
            const vbytes last = highest_of_column(x, row_step);
            v_store(y, v_max(v_max(shared, middle), last));
            shared = last;
        }
    }
}

/* Whether windows with all rows inside the input may slide. */
static inline int slides(const ek_pool_params *p)
{
    return p->kernel_h == 3 && p->kernel_w == 3 && p->stride_w == 2 && p->dilation_h == 1
        && p->dilation_w == 1 && p->in.w >= 3;
}

static inline void max_pool(const ek_pool_params *p, const int8_t *x, int8_t *out,
                            const ek_range *range)
{
    int32_t first = range->col_end, end = first; /* columns whose windows slide */
    if (slides(p)) {
        first = ek_max((p->pad_left + 1) / 2, range->col);
        end = ek_min((p->in.w - 3 + p->pad_left) / 2 + 1, range->col_end);
    }
    for (int32_t i = range->row; i < range->row_end; i++) {
        const int32_t n = i / p->out.h, oh = i % p->out.h;
        const int32_t h = oh * p->stride_h - p->pad_top;
        const ek_taps rows = ek_taps_inside(h, p->kernel_h, p->dilation_h, p->in.h);
        const pool_row row = {x + ek_image_at(&p->in, n, h + rows.first * p->dilation_h, 0),
                              out + ek_image_at(&p->out, n, oh, 0), rows.end - rows.first};
        if (row.rows == 3 && first < end) {
            pool_columns(p, &row, range->col, first, range);
            pool_sliding(p, &row, first, end, range);
            pool_columns(p, &row, end, range->col_end, range);
        } else {
            pool_columns(p, &row, range->col, range->col_end, range);
        }
    }
}
