/* SPDX-License-Identifier: Apache-2.0
 *
 * Depthwise convolution, sixteen channels at a time (ARMv7: eight, for its sixteen registers).
 * Products of two taps are added in 16 bits, which hold them unless both weights are -128 (see
 * ek_weights), and then to 32-bit sums. 3x3 windows keep their columns in registers; others read
 * each tap through an offset. The last block of channels overlaps the one before it; fewer than
 * eight channels, and channel multipliers, go to the scalar kernel.
 */
#include <string.h>

#include "../kernels.h"
#include "../window.h"
#include "neon.h"
#include "requant_neon.h"

typedef ek_requant_neon requant;

#ifdef __aarch64__
#define LANES 16
#else
#define LANES 8
#endif

/* Bytes of LANES or eight channels; `lanes` is a constant everywhere below. */
INLINE int8x16_t load(const int lanes, const int8_t *x)
{
    return lanes == 16 ? vld1q_s8(x) : vcombine_s8(vld1_s8(x), vdup_n_s8(0));
}

/* One sum for each channel: four vectors, or two. */
typedef struct sums {
    int32x4_t v[4];
} sums;

INLINE sums load_start(const int lanes, const int32_t *start)
{
    sums s;
    s.v[0] = vld1q_s32(start);
    s.v[1] = vld1q_s32(start + 4);
    s.v[2] = lanes == 16 ? vld1q_s32(start + 8) : s.v[0];
    s.v[3] = lanes == 16 ? vld1q_s32(start + 12) : s.v[0];
    return s;
}

INLINE sums add_low(sums s, int16x8_t t)
{
    s.v[0] = vaddw_s16(s.v[0], vget_low_s16(t));
    s.v[1] = addw_high(s.v[1], t);
    return s;
}

INLINE sums add_high(sums s, int16x8_t t)
{
    s.v[2] = vaddw_s16(s.v[2], vget_low_s16(t));
    s.v[3] = addw_high(s.v[3], t);
    return s;
}

INLINE sums add_tap(const int lanes, sums s, int8x16_t x, int8x16_t w)
{
    s = add_low(s, mull_low(x, w));
    return lanes == 16 ? add_high(s, mull_high(x, w)) : s;
}

/* Two taps; `pairs` is a constant, too: whether their products fit 16 bits together. */
INLINE sums add_taps(const int lanes, const int pairs, sums s, int8x16_t x0, int8x16_t w0,
                     int8x16_t x1, int8x16_t w1)
{
    if (!pairs)
        return add_tap(lanes, add_tap(lanes, s, x0, w0), x1, w1);
    s = add_low(s, mlal_low(mull_low(x0, w0), x1, w1));
    if (lanes == 8)
        return s;
    return add_high(s, mlal_high(mull_high(x0, w0), x1, w1));
}

INLINE void store(const int lanes, int8_t *y, sums s, const float *m, const requant *r)
{
    if (lanes == 16) {
        const float32x4_t multipliers[4] = {vld1q_f32(m), vld1q_f32(m + 4), vld1q_f32(m + 8),
                                            vld1q_f32(m + 12)};
        vst1q_s8(y, ek_requantize16_neon(s.v, multipliers, r));
    } else {
        vst1_s8(y, ek_requantize8_neon(s.v[0], s.v[1], vld1q_f32(m), vld1q_f32(m + 4), r));
    }
}

/* One block of channels of the whole range. */
typedef struct block {
    const ek_conv_params *p;
    const requant *r;
    const ek_range *range;
    const int8_t *x;
    int8_t *y;
    const int32_t *offsets; /* of each tap from the window's first; not for 3x3 */
    int32_t c;              /* the first channel */
} block;

/* ---- 3x3 ------------------------------------------------------------------------------------- */

/* One input column of three rows. */
typedef struct column {
    int8x16_t a, b, c;
} column;

/* Three input rows at their next column, number `w`. Those outside the input stand still on a row
 * of x_zero, as do all of them on `outside` before the first and behind the last column. */
typedef struct rows3 {
    const int8_t *row0, *row1, *row2;
    ptrdiff_t step0, step1, step2;
    int32_t w, width;
    int8x16_t outside;
} rows3;

INLINE column load_column(const int lanes, rows3 *rows)
{
    const column v = {load(lanes, rows->row0), load(lanes, rows->row1),
                      load(lanes, rows->row2)};
    rows->row0 += rows->step0;
    rows->row1 += rows->step1;
    rows->row2 += rows->step2;
    rows->w++;
    return v;
}

INLINE column next_column(const int lanes, rows3 *rows)
{
    if ((uint32_t)rows->w < (uint32_t)rows->width)
        return load_column(lanes, rows);
    rows->w++;
    return (column){rows->outside, rows->outside, rows->outside};
}

typedef struct weights3 {
    column x[3]; /* by kernel column */
} weights3;

/* What a row of outputs needs; copies, which stores to the output cannot change. */
typedef struct channels {
    weights3 weights;
    const int32_t *start;
    const float *multiplier;
    requant r;
} channels;

INLINE void output(const int lanes, const int pairs, const channels *c, column x0, column x1,
                   column x2, int8_t *y)
{
    const column w0 = c->weights.x[0], w1 = c->weights.x[1], w2 = c->weights.x[2];
    sums s = load_start(lanes, c->start);
    s = add_taps(lanes, pairs, s, x0.a, w0.a, x1.a, w1.a);
    s = add_taps(lanes, pairs, s, x0.b, w0.b, x1.b, w1.b);
    s = add_taps(lanes, pairs, s, x0.c, w0.c, x1.c, w1.c);
    s = add_taps(lanes, pairs, s, x2.a, w2.a, x2.b, w2.b);
    s = add_tap(lanes, s, x2.c, w2.c);
    store(lanes, y, s, c->multiplier, &c->r);
}

/* `count` output columns of one row. Three columns (stride 2: two) at a time, so that input columns
 * need not move between registers. */
INLINE void columns(const int lanes, const int pairs, const int stride, const channels *c,
                    rows3 rows, int32_t count, int8_t *y, ptrdiff_t y_step)
{
    column x0 = next_column(lanes, &rows), x1, x2;
    if (stride == 1)
        x1 = next_column(lanes, &rows);
    int32_t inside = rows.w < 0 ? 0 : rows.width - rows.w; /* columns from here on */
    for (; stride == 1 && inside >= 3 && count > 3; inside -= 3, count -= 3, y += y_step) {
        x2 = load_column(lanes, &rows);
        output(lanes, pairs, c, x0, x1, x2, y);
        x0 = load_column(lanes, &rows);
        output(lanes, pairs, c, x1, x2, x0, y += y_step);
        x1 = load_column(lanes, &rows);
        output(lanes, pairs, c, x2, x0, x1, y += y_step);
    }
    for (; stride == 2 && inside >= 4 && count > 2; inside -= 4, count -= 2, y += y_step) {
        x1 = load_column(lanes, &rows);
        x2 = load_column(lanes, &rows);
        output(lanes, pairs, c, x0, x1, x2, y);
        x1 = load_column(lanes, &rows);
        x0 = load_column(lanes, &rows);
        output(lanes, pairs, c, x2, x1, x0, y += y_step);
    }
    for (;;) {
        if (stride == 2)
            x1 = next_column(lanes, &rows);
        x2 = next_column(lanes, &rows);
        output(lanes, pairs, c, x0, x1, x2, y);
        if (--count == 0)
            return;
        y += y_step;
        if (stride == 2)
            x1 = next_column(lanes, &rows);
        x0 = next_column(lanes, &rows);
        if (stride == 2) {
            output(lanes, pairs, c, x2, x1, x0, y);
        } else {
            output(lanes, pairs, c, x1, x2, x0, y);
            if (--count == 0)
                return;
            y += y_step;
            x1 = next_column(lanes, &rows);
            output(lanes, pairs, c, x2, x0, x1, y);
        }
        if (--count == 0)
            return;
        y += y_step;
    }
}

/* The rows of a window at (h, w), `image` at channel 0 of the block. */
INLINE rows3 rows_at(const ek_conv_params *p, const int8_t *image, int32_t h, int32_t w,
                     const int8_t *outside)
{
    rows3 rows = {.w = w, .width = p->in.w, .outside = vdupq_n_s8((int8_t)p->x_zero)};
    const int8_t *first = image + (ptrdiff_t)ek_max(w, 0) * p->in.w_stride;
    const ptrdiff_t down = p->in.h_stride, step = p->in.w_stride;
#define ROW(i)                                                                                  \
    do {                                                                                        \
        const int32_t ih = h + (i) * p->dilation_h;                                             \
        const int inside = ih >= 0 && ih < p->in.h;                                             \
        rows.row##i = inside ? first + ih * down : outside;                                     \
        rows.step##i = inside ? step : 0;                                                       \
    } while (0)
    ROW(0);
    ROW(1);
    ROW(2);
#undef ROW
    return rows;
}

INLINE void run_3x3(const int lanes, const int pairs, const int stride, const block *b)
{
    const ek_conv_params *p = b->p;
    const ek_range *range = b->range;
    int8_t outside[LANES];
    channels c = {.start = p->start + b->c, .multiplier = p->multiplier + b->c, .r = *b->r};
    memset(outside, p->x_zero, sizeof outside);
    for (int kw = 0; kw < 3; kw++) {
        const int8_t *w = p->weights.data + (ptrdiff_t)kw * p->out.c + b->c;
        const ptrdiff_t row = (ptrdiff_t)3 * p->out.c;
        c.weights.x[kw] = (column){load(lanes, w), load(lanes, w + row), load(lanes, w + 2 * row)};
    }
    for (int32_t row = range->row; row < range->row_end; row++) {
        const int32_t n = row / p->out.h, oh = row % p->out.h;
        const rows3 rows = rows_at(p, b->x + ek_image_at(&p->in, n, 0, 0) + b->c,
                                   oh * p->stride_h - p->pad_top,
                                   range->col * p->stride_w - p->pad_left, outside);
        columns(lanes, pairs, stride, &c, rows, range->col_end - range->col,
                b->y + ek_image_at(&p->out, n, oh, range->col) + b->c, p->out.w_stride);
    }
}

static int is_3x3(const ek_conv_params *p)
{
    return p->kernel_h == 3 && p->kernel_w == 3 && p->dilation_w == 1
        && (p->stride_w == 1 || p->stride_w == 2);
}

/* ---- Any window ------------------------------------------------------------------------------ */

/* Where each tap is, from the window's first. */
static void fill_offsets(const ek_conv_params *p, int32_t *offsets)
{
    for (int32_t kh = 0; kh < p->kernel_h; kh++)
        for (int32_t kw = 0; kw < p->kernel_w; kw++)
            *offsets++ = kh * p->dilation_h * p->in.h_stride + kw * p->dilation_w * p->in.w_stride;
}

INLINE sums sum_inside(const int lanes, const int pairs, const block *b, const int8_t *x)
{
    const ek_conv_params *p = b->p;
    const int32_t taps = p->kernel_h * p->kernel_w;
    const int32_t *offsets = b->offsets, *end = offsets + taps - taps % 2;
    const int8_t *w = p->weights.data + b->c;
    const ptrdiff_t c = p->out.c;
    sums s = load_start(lanes, p->start + b->c);
    for (; offsets != end; offsets += 2, w += 2 * c)
        s = add_taps(lanes, pairs, s, load(lanes, x + offsets[0]), load(lanes, w),
                     load(lanes, x + offsets[1]), load(lanes, w + c));
    return taps % 2 ? add_tap(lanes, s, load(lanes, x + *offsets), load(lanes, w)) : s;
}

/* The same for a window that is partly outside the input. */
INLINE sums sum_border(const int lanes, const block *b, const int8_t *image, int32_t h, int32_t w)
{
    const ek_conv_params *p = b->p;
    const int8_t *weights = p->weights.data + b->c;
    sums s = load_start(lanes, p->start + b->c);
    for (int32_t kh = 0; kh < p->kernel_h; kh++) {
        const int32_t ih = h + kh * p->dilation_h;
        for (int32_t kw = 0; kw < p->kernel_w; kw++, weights += p->out.c) {
            const int32_t iw = w + kw * p->dilation_w;
            const int inside = ih >= 0 && ih < p->in.h && iw >= 0 && iw < p->in.w;
            const int8x16_t x = inside ? load(lanes, image + ek_image_at(&p->in, 0, ih, iw))
                                       : vdupq_n_s8((int8_t)p->x_zero);
            s = add_tap(lanes, s, x, load(lanes, weights));
        }
    }
    return s;
}

INLINE void run_any(const int lanes, const int pairs, const block *b)
{
    const ek_conv_params *p = b->p;
    const ek_taps inside = ek_columns_inside(p, b->range);
    for (int32_t row = b->range->row; row < b->range->row_end; row++) {
        const int32_t n = row / p->out.h, oh = row % p->out.h;
        const int32_t h = oh * p->stride_h - p->pad_top;
        const int8_t *image = b->x + ek_image_at(&p->in, n, 0, 0) + b->c;
        int8_t *y = b->y + ek_image_at(&p->out, n, oh, 0) + b->c;
        const int rows_inside = h >= 0 && h + (p->kernel_h - 1) * p->dilation_h < p->in.h;
        for (int32_t col = b->range->col; col < b->range->col_end; col++) {
            const int32_t w = col * p->stride_w - p->pad_left;
            const sums s = rows_inside && col >= inside.first && col < inside.end
                ? sum_inside(lanes, pairs, b, image + ek_image_at(&p->in, 0, h, w))
                : sum_border(lanes, b, image, h, w);
            store(lanes, y + (ptrdiff_t)col * p->out.w_stride, s, p->multiplier + b->c, b->r);
        }
    }
}

/* ---- The kernel ------------------------------------------------------------------------------ */

enum { STRIDE_1, STRIDE_2, ANY_WINDOW, WINDOWS };

typedef void (*run_fn)(const block *b);

#define VARIANTS(lanes, pairs)                                                                  \
    static void stride1_##lanes##_##pairs(const block *b) { run_3x3(lanes, pairs, 1, b); }      \
    static void stride2_##lanes##_##pairs(const block *b) { run_3x3(lanes, pairs, 2, b); }      \
    static void any_##lanes##_##pairs(const block *b) { run_any(lanes, pairs, b); }
#define NAMES(lanes, pairs)                                                                     \
    {stride1_##lanes##_##pairs, stride2_##lanes##_##pairs, any_##lanes##_##pairs}
VARIANTS(8, 0)
VARIANTS(8, 1)
#if LANES == 16
VARIANTS(16, 0)
VARIANTS(16, 1)
#endif

/* [more than eight lanes][pairs fit] */
static const run_fn run_by[][2][WINDOWS] = {
    {NAMES(8, 0), NAMES(8, 1)},
#if LANES == 16
    {NAMES(16, 0), NAMES(16, 1)},
#endif
};

int ek_depthwise_neon_supports(const void *params)
{
    const ek_conv_params *p = params;
    return p->in.c == p->out.c && p->out.c >= 8;
}

size_t ek_depthwise_neon_scratch(const void *params)
{
    const ek_conv_params *p = params;
    return is_3x3(p) ? 0 : (size_t)p->kernel_h * (size_t)p->kernel_w * sizeof(int32_t);
}

void ek_depthwise_neon(const void *params, const void *const in[], void *out, void *scratch,
                       const ek_range *range)
{
    const ek_conv_params *p = params;
    const requant r = ek_requant_neon_init(&p->clamp);
    const int window = !is_3x3(p) ? ANY_WINDOW : p->stride_w == 1 ? STRIDE_1 : STRIDE_2;
    const int32_t channels = range->ch_end - range->ch;
    if (channels < 8) {
        ek_depthwise_scalar(params, in, out, NULL, range);
        return;
    }
    if (window == ANY_WINDOW)
        fill_offsets(p, scratch);
    block b = {p, &r, range, in[0], out, scratch, range->ch};
    for (int32_t done = 0; done < channels;) {
        const int32_t left = channels - done;
        const int32_t lanes = channels >= LANES && left > 8 ? LANES : 8;
        b.c = range->ch + ek_min(done, channels - lanes);
        run_by[lanes > 8][p->weights.pairs_fit != 0][window](&b);
        done += lanes;
    }
}
