/* SPDX-License-Identifier: Apache-2.0
 *
 * Body of depthwise_avx2.c and depthwise_sse41.c: the bytes of two taps are interleaved and
 * widened, so that one multiply-add sums both taps of LANES channels exactly. 3x3 windows keep
 * their columns in registers; for others the rows of some windows are interleaved and widened in
 * scratch first, with the padding in place: a band. It holds every input column that these windows
 * span, or, where these are more than twice as many as the windows' taps, the columns of each tap
 * on their own: at most 2 * BAND_WINDOWS vectors for each pair of taps. Channels beyond a multiple
 * of LANES and channel multipliers go to the scalar kernel.
 */
#include <string.h>

#include "../kernels.h"
#include "../window.h"
#include "vector.h"

#define INLINE static inline __attribute__((always_inline))

/* Loops over registers must disappear. */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

/* What stays the same along a row for LANES channels. */
typedef struct lane_params {
    const vint *weights;
    vint start;
    vfloat multiplier;
} lane_params;

INLINE lane_params lane_params_at(const ek_conv_params *p, const vint *weights, int32_t c)
{
    lane_params l;
    l.weights = weights;
    l.start = v_load(p->start + c);
    l.multiplier = v_loadf(p->multiplier + c);
    return l;
}

INLINE void store(int8_t *y, vint acc, const lane_params *l, const requant *r)
{
    v_store_i8(y, v_requantize(acc, l->multiplier, r), r);
}

/* Four pixels. */
INLINE void store4(int8_t *y, ptrdiff_t step, const vint acc[4], const lane_params *l,
                   const requant *r)
{
    v_store_quarters(y, step, v_requantize4(acc, l->multiplier, r));
}

/* ---- 3x3 ------------------------------------------------------------------------------------- */

/* One input column of three rows. */
typedef struct column {
    vint upper; /* rows 0 and 1, interleaved int16 */
    vint lower; /* row 2 as int32: its weights are (w, 0) */
} column;

/* Three input rows; those outside the input stand still on a row of x_zero. */
typedef struct rows3 {
    const int8_t *row[3];
    ptrdiff_t step[3];
    int32_t width;
    column outside;
} rows3;

INLINE column column_at(const rows3 *rows, int32_t w)
{
    if (w < 0 || w >= rows->width)
        return rows->outside;
    column v;
    v.upper = v_pair(v_load_bytes(rows->row[0] + w * rows->step[0]),
                         v_load_bytes(rows->row[1] + w * rows->step[1]));
    v.lower = v_widen(v_load_bytes(rows->row[2] + w * rows->step[2]));
    return v;
}

INLINE vint add_column(vint acc, column v, const vint *weights)
{
    acc = v_add(acc, v_madd(v.upper, weights[0]));
    return v_add(acc, v_madd(v.lower, weights[1]));
}

/* Columns [col, col_end) of an output row; `stride` is a constant 1 or 2. */
INLINE void row_3x3(const int stride, const ek_conv_params *p, const rows3 *rows,
                    const lane_params *l, const requant *r, int32_t col, int32_t col_end,
                    int8_t *y)
{
    const vint *weights = l->weights;
    int32_t w = col * stride - p->pad_left;
    column a = column_at(rows, w), b = column_at(rows, w + 1), c;
    for (w += 2; col < col_end; col++, w += stride) {
        c = column_at(rows, w);
        vint acc = add_column(l->start, a, weights);
        acc = add_column(acc, b, weights + 2);
        acc = add_column(acc, c, weights + 4);
        store(y + (ptrdiff_t)col * p->out.w_stride, acc, l, r);
        a = stride == 1 ? b : c;
        b = stride == 1 ? c : column_at(rows, w + 1);
    }
}

static int is_3x3(const ek_conv_params *p)
{
    return p->kernel_h == 3 && p->kernel_w == 3 && p->dilation_w == 1
        && (p->stride_w == 1 || p->stride_w == 2);
}

/* [column][upper, lower] for LANES channels. */
static void prepare_3x3(const ek_conv_params *p, int32_t c, vint *to)
{
    for (int32_t kw = 0; kw < 3; kw++) {
        const int8_t *w = p->weights.data + (ptrdiff_t)kw * p->out.c + c;
        const ptrdiff_t row = (ptrdiff_t)3 * p->out.c;
        to[2 * kw] = v_pair(v_load_bytes(w), v_load_bytes(w + row));
        to[2 * kw + 1] =
            v_and(v_widen(v_load_bytes(w + 2 * row)), v_set(0xFFFF));
    }
}

static void run_3x3(const ek_conv_params *p, const int8_t *image, int32_t h, int32_t c,
                    const vint *weights, const requant *r, const ek_range *range,
                    int8_t *y)
{
    const lane_params l = lane_params_at(p, weights, c);
    int8_t outside[LANES];
    rows3 rows;
    memset(outside, p->x_zero, sizeof outside);
    for (int32_t kh = 0; kh < 3; kh++) {
        const int32_t ih = h + kh * p->dilation_h;
        const int inside = ih >= 0 && ih < p->in.h;
        rows.row[kh] = inside ? image + (ptrdiff_t)ih * p->in.h_stride + c : outside;
        rows.step[kh] = inside ? p->in.w_stride : 0;
    }
    rows.width = p->in.w;
    rows.outside.upper = v_set16(p->x_zero);
    rows.outside.lower = v_set(p->x_zero);
    if (p->stride_w == 1)
        row_3x3(1, p, &rows, &l, r, range->col, range->col_end, y + c);
    else
        row_3x3(2, p, &rows, &l, r, range->col, range->col_end, y + c);
}

/* ---- Any window ------------------------------------------------------------------------------ */

#define BAND_WINDOWS 32 /* beside each other, whose input is prepared at a time */

static int32_t row_pairs_of(const ek_conv_params *p)
{
    return ek_ceil_div(p->kernel_h, 2);
}

static int32_t pairs_of(const ek_conv_params *p)
{
    return row_pairs_of(p) * p->kernel_w;
}

/* Input columns that `count` windows beside each other span. */
static int32_t span_of(const ek_conv_params *p, int32_t count)
{
    return (count - 1) * p->stride_w + (p->kernel_w - 1) * p->dilation_w + 1;
}

/* A band is [run][column][pair of rows]. */
typedef struct band_shape {
    int32_t windows;    /* at most */
    int gathers;        /* a run for each column of taps; else one run for all */
    int32_t columns;    /* of a run */
    int32_t tap_step, window_step; /* in the band, between taps and windows beside each other */
} band_shape;

static band_shape band_shape_of(const ek_conv_params *p)
{
    const int32_t windows = ek_min(p->out.w, BAND_WINDOWS), span = span_of(p, windows);
    if (span > 2 * (int64_t)windows * p->kernel_w)
        return (band_shape){windows, 1, windows, windows, 1};
    return (band_shape){windows, 0, span, p->dilation_w, p->stride_w};
}

static size_t band_bytes(const ek_conv_params *p)
{
    const band_shape b = band_shape_of(p);
    return (size_t)(b.gathers ? p->kernel_w : 1) * (size_t)b.columns * (size_t)row_pairs_of(p)
        * sizeof(vint);
}

/* [column][pair of rows] of weights for LANES channels; zero for the row that a last pair lacks. */
static void prepare_any(const ek_conv_params *p, int32_t c, vint *to)
{
    const int8_t zeros[LANES] = {0};
    const ptrdiff_t row = (ptrdiff_t)p->kernel_w * p->out.c;
    for (int32_t kw = 0; kw < p->kernel_w; kw++)
        for (int32_t kh = 0; kh < p->kernel_h; kh += 2) {
            const int8_t *w = p->weights.data + kh * row + (ptrdiff_t)kw * p->out.c + c;
            *to++ = v_pair(v_load_bytes(w), v_load_bytes(kh + 1 < p->kernel_h ? w + row : zeros));
        }
}

/* Where each pair of taps is in a band, from the first of its window, in vectors. */
static void fill_offsets(const ek_conv_params *p, const band_shape *b, int32_t *offsets)
{
    const int32_t row_pairs = row_pairs_of(p);
    for (int32_t t = 0; t < pairs_of(p); t++)
        offsets[t] = t / row_pairs * b->tap_step * row_pairs + t % row_pairs;
}

/* LANES channels of an input row; outside the input it stands still on x_zero. */
typedef struct tap_row {
    const int8_t *x;
    ptrdiff_t step;
} tap_row;

INLINE tap_row tap_row_at(const ek_conv_params *p, const int8_t *image, const int8_t *outside,
                          int32_t ih)
{
    const int inside = ih >= 0 && ih < p->in.h;
    return (tap_row){inside ? image + (ptrdiff_t)ih * p->in.h_stride : outside,
                     inside ? p->in.w_stride : 0};
}

/* A run of `columns` columns, `step` apart, of the rows that windows from (h, w) on read; `image`
 * is at the first channel. */
INLINE void fill_run(const ek_conv_params *p, const int8_t *image, int32_t h, int32_t w,
                     const int32_t step, int32_t columns, vint *run)
{
    const int32_t row_pairs = row_pairs_of(p);
    const ek_taps inside = ek_taps_inside(w, columns, step, p->in.w);
    const vint zero = v_set16(p->x_zero);
    int8_t outside[LANES];
    memset(outside, p->x_zero, sizeof outside);
    for (int32_t i = 0; i < row_pairs; i++) {
        const int32_t ih = h + 2 * i * p->dilation_h;
        const int lone = 2 * i + 1 == p->kernel_h; /* its partner's weights are zero */
        const tap_row a = tap_row_at(p, image, outside, ih);
        const tap_row b = lone ? a : tap_row_at(p, image, outside, ih + p->dilation_h);
        for (int32_t col = 0; col < inside.first; col++)
            run[col * row_pairs + i] = zero;
        for (int32_t col = inside.first; col < inside.end; col++) {
            const int32_t iw = w + col * step;
            run[col * row_pairs + i] =
                v_pair(v_load_bytes(a.x + iw * a.step), v_load_bytes(b.x + iw * b.step));
        }
        for (int32_t col = inside.end; col < columns; col++)
            run[col * row_pairs + i] = zero;
    }
}

/* What `windows` windows from (h, w) on read. */
static void fill_band(const ek_conv_params *p, const band_shape *b, const int8_t *image, int32_t h,
                      int32_t w, int32_t windows, vint *band)
{
    if (!b->gathers) {
        fill_run(p, image, h, w, 1, span_of(p, windows), band);
        return;
    }
    const ptrdiff_t run = (ptrdiff_t)b->columns * row_pairs_of(p);
    for (int32_t kw = 0; kw < p->kernel_w; kw++)
        fill_run(p, image, h, w + kw * p->dilation_w, p->stride_w, windows, band + kw * run);
}

/* `windows` (a constant) windows, `step` vectors apart. */
INLINE void sum_windows(const int windows, const lane_params *l, const vint *band, ptrdiff_t step,
                        const int32_t *offsets, int32_t pairs, vint *acc)
{
    UNROLL for (int i = 0; i < windows; i++) acc[i] = l->start;
    for (int32_t t = 0; t < pairs; t++) {
        const vint w = l->weights[t], *x = band + offsets[t];
        UNROLL for (int i = 0; i < windows; i++)
            acc[i] = v_add(acc[i], v_madd(w, x[i * step]));
    }
}

static void multiply_band(const ek_conv_params *p, const band_shape *b, const lane_params *l,
                          const vint *band, const int32_t *offsets, const requant *r,
                          int32_t windows, int8_t *y)
{
    const ptrdiff_t step = (ptrdiff_t)b->window_step * row_pairs_of(p), y_step = p->out.w_stride;
    const int32_t pairs = pairs_of(p);
    vint acc[4];
    int32_t i = 0;
    for (; i + 4 <= windows; i += 4) {
        sum_windows(4, l, band + i * step, step, offsets, pairs, acc);
        store4(y + i * y_step, y_step, acc, l, r);
    }
    for (; i < windows; i++) {
        sum_windows(1, l, band + i * step, step, offsets, pairs, acc);
        store(y + i * y_step, acc[0], l, r);
    }
}

/* An output row; `y` is at its first column. */
static void run_any(const ek_conv_params *p, const band_shape *b, const int8_t *image, int32_t h,
                    int32_t c, const vint *weights, const int32_t *offsets, vint *band,
                    const requant *r, const ek_range *range, int8_t *y)
{
    const lane_params l = lane_params_at(p, weights, c);
    for (int32_t col = range->col; col < range->col_end; col += b->windows) {
        const int32_t windows = ek_min(b->windows, range->col_end - col);
        fill_band(p, b, image + c, h, col * p->stride_w - p->pad_left, windows, band);
        multiply_band(p, b, &l, band, offsets, r, windows,
                      y + c + (ptrdiff_t)col * p->out.w_stride);
    }
}

/* ---- The kernel ------------------------------------------------------------------------------ */

/* Vectors of weights for LANES channels. */
static int32_t vectors_of(const ek_conv_params *p)
{
    return is_3x3(p) ? 6 : pairs_of(p);
}

int VECTOR_NAME_WITH(ek_depthwise, supports)(const void *params)
{
    const ek_conv_params *p = params;
    return p->in.c == p->out.c && p->out.c >= LANES;
}

size_t VECTOR_NAME_WITH(ek_depthwise, scratch)(const void *params)
{
    const ek_conv_params *p = params;
    const size_t weights = (size_t)(p->out.c / LANES) * (size_t)vectors_of(p) * sizeof(vint);
    return weights + (is_3x3(p) ? 0 : band_bytes(p) + (size_t)pairs_of(p) * sizeof(int32_t));
}

void VECTOR_NAME(ek_depthwise)(const void *params, const void *const in[], void *out, void *scratch,
                       const ek_range *range)
{
    const ek_conv_params *p = params;
    const requant r = requant_init(&p->clamp);
    const int32_t blocks = (range->ch_end - range->ch) / LANES, vectors = vectors_of(p);
    const int three = is_3x3(p);
    const band_shape b = band_shape_of(p);
    vint *weights = scratch;
    vint *band = weights + (ptrdiff_t)blocks * vectors;
    int32_t *offsets = three ? NULL : (int32_t *)(void *)((uint8_t *)band + band_bytes(p));

    for (int32_t i = 0; i < blocks; i++)
        (three ? prepare_3x3 : prepare_any)(p, range->ch + i * LANES, weights + i * vectors);
    if (!three)
        fill_offsets(p, &b, offsets);

    for (int32_t row = range->row; blocks > 0 && row < range->row_end; row++) {
        const int32_t n = row / p->out.h, oh = row % p->out.h;
        const int32_t h = oh * p->stride_h - p->pad_top;
        const int8_t *image = (const int8_t *)in[0] + ek_image_at(&p->in, n, 0, 0);
        int8_t *y = (int8_t *)out + ek_image_at(&p->out, n, oh, 0);
        for (int32_t i = 0; i < blocks; i++) {
            const int32_t c = range->ch + i * LANES;
            if (three)
                run_3x3(p, image, h, c, weights + i * vectors, &r, range, y);
            else
                run_any(p, &b, image, h, c, weights + i * vectors, offsets, band, &r, range, y);
        }
    }
    ek_range rest = *range;
    rest.ch += blocks * LANES;
    if (rest.ch < rest.ch_end)
        ek_depthwise_scalar(params, in, out, NULL, &rest);
}
