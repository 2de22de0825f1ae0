/* SPDX-License-Identifier: Apache-2.0
 *
 * Depthwise convolution, eight channels at a time: the bytes of two taps are interleaved and
 * widened, so that one multiply-add sums both taps of eight channels exactly. 3x3 windows keep their
 * columns in registers; others read each tap through an offset. Channels beyond a multiple of eight
 * and channel multipliers go to the scalar kernel.
 */
#include <string.h>

#include "../kernels.h"
#include "../window.h"
#include "requant_avx2.h"

#define LANES 8
#define INLINE static inline __attribute__((always_inline))

INLINE __m128i load8(const int8_t *x)
{
    return _mm_loadl_epi64((const __m128i *)(const void *)x);
}

/* (a0 b0 a1 b1 ...) of eight channels as int16. */
INLINE __m256i widen_pair(__m128i a, __m128i b)
{
    return _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(a, b));
}

/* What stays the same along a row for eight channels. */
typedef struct lane_params {
    const __m256i *weights;
    __m256i start;
    __m256 multiplier;
} lane_params;

INLINE lane_params lane_params_at(const ek_conv_params *p, const __m256i *weights, int32_t c)
{
    lane_params l;
    l.weights = weights;
    l.start = _mm256_loadu_si256((const __m256i *)(const void *)(p->start + c));
    l.multiplier = _mm256_loadu_ps(p->multiplier + c);
    return l;
}

INLINE void store(int8_t *y, __m256i acc, const lane_params *l, const ek_requant_avx2 *r)
{
    const __m256i rounded = ek_requantize_avx2(acc, l->multiplier, r);
    _mm_storel_epi64((__m128i *)(void *)y, ek_pack8_avx2(rounded, r));
}

/* ---- 3x3 ------------------------------------------------------------------------------------- */

/* One input column of three rows. */
typedef struct column {
    __m256i upper; /* rows 0 and 1, interleaved int16 */
    __m256i lower; /* row 2 as int32: its weights are (w, 0) */
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
    v.upper = widen_pair(load8(rows->row[0] + w * rows->step[0]),
                         load8(rows->row[1] + w * rows->step[1]));
    v.lower = _mm256_cvtepi8_epi32(load8(rows->row[2] + w * rows->step[2]));
    return v;
}

INLINE __m256i add_column(__m256i acc, column v, const __m256i *weights)
{
    acc = _mm256_add_epi32(acc, _mm256_madd_epi16(v.upper, weights[0]));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(v.lower, weights[1]));
}

/* Columns [col, col_end) of an output row; `stride` is a constant 1 or 2. */
INLINE void row_3x3(const int stride, const ek_conv_params *p, const rows3 *rows,
                    const lane_params *l, const ek_requant_avx2 *r, int32_t col, int32_t col_end,
                    int8_t *y)
{
    const __m256i *weights = l->weights;
    int32_t w = col * stride - p->pad_left;
    column a = column_at(rows, w), b = column_at(rows, w + 1), c;
    for (w += 2; col < col_end; col++, w += stride) {
        c = column_at(rows, w);
        __m256i acc = add_column(l->start, a, weights);
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

/* [column][upper, lower] for eight channels. */
static void prepare_3x3(const ek_conv_params *p, int32_t c, __m256i *to)
{
    for (int32_t kw = 0; kw < 3; kw++) {
        const int8_t *w = p->weights.data + (ptrdiff_t)kw * p->out.c + c;
        const ptrdiff_t row = (ptrdiff_t)3 * p->out.c;
        to[2 * kw] = widen_pair(load8(w), load8(w + row));
        to[2 * kw + 1] =
            _mm256_and_si256(_mm256_cvtepi8_epi32(load8(w + 2 * row)), _mm256_set1_epi32(0xFFFF));
    }
}

static void run_3x3(const ek_conv_params *p, const int8_t *image, int32_t h, int32_t c,
                    const __m256i *weights, const ek_requant_avx2 *r, const ek_range *range,
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
    rows.outside.upper = _mm256_set1_epi16((short)p->x_zero);
    rows.outside.lower = _mm256_set1_epi32(p->x_zero);
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
static void prepare_any(const ek_conv_params *p, int32_t c, __m256i *to)
{
    const int32_t taps = p->kernel_h * p->kernel_w;
    for (int32_t t = 0; t < taps; t += 2) {
        const int8_t *w = p->weights.data + (ptrdiff_t)t * p->out.c + c;
        to[t / 2] = widen_pair(load8(w), t + 1 < taps ? load8(w + p->out.c) : _mm_setzero_si128());
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

INLINE __m256i sum_taps(const lane_params *l, const int8_t *x, const int32_t *offsets,
                        int32_t pairs)
{
    __m256i acc = l->start;
    for (int32_t i = 0; i < pairs; i++) {
        const __m256i v = widen_pair(load8(x + offsets[2 * i]), load8(x + offsets[2 * i + 1]));
        acc = _mm256_add_epi32(acc, _mm256_madd_epi16(v, l->weights[i]));
    }
    return acc;
}

/* The same for a window that is partly outside the input. */
static __m256i sum_border(const ek_conv_params *p, const lane_params *l, const int8_t *image,
                          int32_t h, int32_t w)
{
    const __m128i outside = _mm_set1_epi8((char)p->x_zero);
    const int32_t taps = p->kernel_h * p->kernel_w;
    __m128i pair[2] = {outside, outside};
    __m256i acc = l->start;
    for (int32_t t = 0; t < taps; t++) {
        const int32_t ih = h + t / p->kernel_w * p->dilation_h;
        const int32_t iw = w + t % p->kernel_w * p->dilation_w;
        const int inside = ih >= 0 && ih < p->in.h && iw >= 0 && iw < p->in.w;
        pair[t % 2] = inside ? load8(image + ek_image_at(&p->in, 0, ih, iw)) : outside;
        if (t % 2 || t + 1 == taps) {
            const __m256i v = widen_pair(pair[0], pair[1]);
            acc = _mm256_add_epi32(acc, _mm256_madd_epi16(v, l->weights[t / 2]));
        }
    }
    return acc;
}

static void run_any(const ek_conv_params *p, const int8_t *image, int32_t h, int32_t c,
                    const __m256i *weights, const int32_t *offsets, const ek_requant_avx2 *r,
                    const ek_range *range, int8_t *y)
{
    const lane_params l = lane_params_at(p, weights, c);
    const int32_t pairs = pairs_of(p);
    const ek_taps rows = ek_taps_inside(h, p->kernel_h, p->dilation_h, p->in.h);
    const int rows_inside = rows.end - rows.first == p->kernel_h;
    const int32_t last_w = p->in.w - 1 - (p->kernel_w - 1) * p->dilation_w;
    for (int32_t col = range->col; col < range->col_end; col++) {
        const int32_t w = col * p->stride_w - p->pad_left;
        const __m256i acc = rows_inside && w >= 0 && w <= last_w
            ? sum_taps(&l, image + c + ek_image_at(&p->in, 0, h, w), offsets, pairs)
            : sum_border(p, &l, image + c, h, w);
        store(y + c + (ptrdiff_t)col * p->out.w_stride, acc, &l, r);
    }
}

/* ---- The kernel ------------------------------------------------------------------------------ */

/* Vectors of weights for eight channels. */
static int32_t vectors_of(const ek_conv_params *p)
{
    return is_3x3(p) ? 6 : pairs_of(p);
}

int ek_depthwise_avx2_supports(const void *params)
{
    const ek_conv_params *p = params;
    return p->in.c == p->out.c && p->out.c >= LANES;
}

size_t ek_depthwise_avx2_scratch(const void *params)
{
    const ek_conv_params *p = params;
    const size_t weights = (size_t)(p->out.c / LANES) * (size_t)vectors_of(p) * sizeof(__m256i);
    return weights + (is_3x3(p) ? 0 : (size_t)pairs_of(p) * 2 * sizeof(int32_t));
}

void ek_depthwise_avx2(const void *params, const void *const in[], void *out, void *scratch,
                       const ek_range *range)
{
    const ek_conv_params *p = params;
    const ek_requant_avx2 r = ek_requant_avx2_init(&p->clamp);
    const int32_t blocks = (range->ch_end - range->ch) / LANES, vectors = vectors_of(p);
    const int three = is_3x3(p);
    __m256i *weights = scratch;
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
