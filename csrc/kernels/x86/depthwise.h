/* SPDX-License-Identifier: Apache-2.0
 *
 * Body of depthwise_avx2.c and depthwise_sse41.c: the bytes of two taps are interleaved and
 * widened, so that one multiply-add sums both taps of LANES channels exactly. 3x3 windows keep
 * their columns in registers; others read each tap through an offset. Channels beyond a multiple of
 * LANES and channel multipliers go to the scalar kernel.
 */
#include <string.h>

#include "../kernels.h"
#include "../window.h"
#include "vector.h"

#define INLINE static inline __attribute__((always_inline))

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

static int32_t pairs_of(const ek_conv_params *p)
{
    return ek_ceil_div(p->kernel_h * p->kernel_w, 2);
}

/* Weights of taps 2i and 2i + 1, a missing last one zero. */
static void prepare_any(const ek_conv_params *p, int32_t c, vint *to)
{
    const int32_t taps = p->kernel_h * p->kernel_w;
    const int8_t zeros[LANES] = {0};
    for (int32_t t = 0; t < taps; t += 2) {
        const int8_t *w = p->weights.data + (ptrdiff_t)t * p->out.c + c;
        to[t / 2] = v_pair(v_load_bytes(w), v_load_bytes(t + 1 < taps ? w + p->out.c : zeros));
    }
}

/* Where each tap is, from the window's first; a missing last one is the first again. */
static void fill_offsets(const ek_conv_params *p, int32_t *offsets)
{
    const int32_t taps = p->kernel_h * p->kernel_w;
    for (int32_t t = 0; t < taps; t++)
        offsets[t] = t / p->kernel_w * p->dilation_h * p->in.h_stride
            + t % p->kernel_w * p->dilation_w * p->in.w_stride;
    if (taps % 2)
        offsets[taps] = 0;
}

INLINE vint sum_taps(const lane_params *l, const int8_t *x, const int32_t *offsets,
                        int32_t pairs)
{
    vint acc = l->start;
    for (int32_t i = 0; i < pairs; i++) {
        const vint v =
            v_pair(v_load_bytes(x + offsets[2 * i]), v_load_bytes(x + offsets[2 * i + 1]));
        acc = v_add(acc, v_madd(v, l->weights[i]));
    }
    return acc;
}

/* The same for a window that is partly outside the input. */
static vint sum_border(const ek_conv_params *p, const lane_params *l, const int8_t *image,
                          int32_t h, int32_t w)
{
    int8_t zeros[LANES];
    memset(zeros, p->x_zero, sizeof zeros);
    const vbytes outside = v_load_bytes(zeros);
    const int32_t taps = p->kernel_h * p->kernel_w;
    vbytes pair[2] = {outside, outside};
    vint acc = l->start;
    for (int32_t t = 0; t < taps; t++) {
        const int32_t ih = h + t / p->kernel_w * p->dilation_h;
        const int32_t iw = w + t % p->kernel_w * p->dilation_w;
        const int inside = ih >= 0 && ih < p->in.h && iw >= 0 && iw < p->in.w;
        pair[t % 2] = inside ? v_load_bytes(image + ek_image_at(&p->in, 0, ih, iw)) : outside;
        if (t % 2 || t + 1 == taps) {
            const vint v = v_pair(pair[0], pair[1]);
            acc = v_add(acc, v_madd(v, l->weights[t / 2]));
        }
    }
    return acc;
}

static void run_any(const ek_conv_params *p, const int8_t *image, int32_t h, int32_t c,
                    const vint *weights, const int32_t *offsets, const requant *r,
                    const ek_range *range, int8_t *y)
{
    const lane_params l = lane_params_at(p, weights, c);
    const int32_t pairs = pairs_of(p);
    const ek_taps rows = ek_taps_inside(h, p->kernel_h, p->dilation_h, p->in.h);
    const int rows_inside = rows.end - rows.first == p->kernel_h;
    const int32_t last_w = p->in.w - 1 - (p->kernel_w - 1) * p->dilation_w;
    for (int32_t col = range->col; col < range->col_end; col++) {
        const int32_t w = col * p->stride_w - p->pad_left;
        const vint acc = rows_inside && w >= 0 && w <= last_w
            ? sum_taps(&l, image + c + ek_image_at(&p->in, 0, h, w), offsets, pairs)
            : sum_border(p, &l, image + c, h, w);
        store(y + c + (ptrdiff_t)col * p->out.w_stride, acc, &l, r);
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
    return weights + (is_3x3(p) ? 0 : (size_t)pairs_of(p) * 2 * sizeof(int32_t));
}

void VECTOR_NAME(ek_depthwise)(const void *params, const void *const in[], void *out, void *scratch,
                       const ek_range *range)
{
    const ek_conv_params *p = params;
    const requant r = requant_init(&p->clamp);
    const int32_t blocks = (range->ch_end - range->ch) / LANES, vectors = vectors_of(p);
    const int three = is_3x3(p);
    vint *weights = scratch;
    int32_t *offsets = (int32_t *)(void *)(weights + (ptrdiff_t)blocks * vectors);

    for (int32_t i = 0; i < blocks; i++)
        (three ? prepare_3x3 : prepare_any)(p, range->ch + i * LANES, weights + i * vectors);
    if (!three)
        fill_offsets(p, offsets);

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
                run_any(p, image, h, c, weights + i * vectors, offsets, &r, range, y);
        }
    }
    ek_range rest = *range;
    rest.ch += blocks * LANES;
    if (rest.ch < rest.ch_end)
        ek_depthwise_scalar(params, in, out, NULL, &rest);
}
