/* SPDX-License-Identifier: Apache-2.0
 *
 * Depthwise 3x3 convolution with stride 1, eight channels of two output rows at a time. A column's
 * four input rows are interleaved, so that a lane holds four values of one channel; the same lane
 * is multiplied with the weights of both output rows, which differ by one place. What is not such a
 * window goes to depthwise_neon. The last block of channels overlaps the one before it.
 */
#include <string.h>

#include "../arm/neon.h"
#include "../arm/requant_neon.h"
#include "../kernels.h"
#include "../window.h"

#define LANES 8

typedef ek_requant_neon requant;

/* Four bytes for each of eight channels. */
typedef struct column {
    int8x16_t low, high;
} column;

/* Eight bytes; a load fills up with zeros in any case. */
INLINE int8x16_t load8(const int8_t *x) { return vcombine_s8(vld1_s8(x), vdup_n_s8(0)); }

/* The low halves. */
INLINE column interleave(int8x16_t a, int8x16_t b, int8x16_t c, int8x16_t d)
{
    const int8x16_t ab = vzip1q_s8(a, b), cd = vzip1q_s8(c, d);
    const int16x8_t left = vreinterpretq_s16_s8(ab), right = vreinterpretq_s16_s8(cd);
    return (column){vreinterpretq_s8_s16(vzip1q_s16(left, right)),
                    vreinterpretq_s8_s16(vzip2q_s16(left, right))};
}

/* Four input rows at their next column, number `w`. Those outside the input stand still on a row of
 * x_zero, as do all of them on `outside` before the first and behind the last column. */
typedef struct rows4 {
    const int8_t *row0, *row1, *row2, *row3;
    ptrdiff_t step0, step1, step2, step3;
    int32_t w, width;
    int8x16_t outside;
} rows4;

INLINE column load_column(rows4 *rows)
{
    const column v = interleave(load8(rows->row0), load8(rows->row1), load8(rows->row2),
                                load8(rows->row3));
    rows->row0 += rows->step0;
    rows->row1 += rows->step1;
    rows->row2 += rows->step2;
    rows->row3 += rows->step3;
    rows->w++;
    return v;
}

INLINE column next_column(rows4 *rows)
{
    if ((uint32_t)rows->w < (uint32_t)rows->width)
        return load_column(rows);
    rows->w++;
    return (column){rows->outside, rows->outside};
}

/* What the outputs of eight channels need. */
typedef struct channels {
    column upper[3], lower[3]; /* weights of both output rows, by kernel column */
    int32x4_t start[2];
    float32x4_t multiplier[2];
    requant r;
} channels;

static channels channels_at(const ek_conv_params *p, const requant *r, int32_t c)
{
    const int8x16_t none = vdupq_n_s8(0);
    channels v;
    for (int kw = 0; kw < 3; kw++) {
        const int8_t *w = p->weights.data + (ptrdiff_t)kw * p->out.c + c;
        const ptrdiff_t row = (ptrdiff_t)3 * p->out.c;
        const int8x16_t w0 = load8(w), w1 = load8(w + row), w2 = load8(w + 2 * row);
        v.upper[kw] = interleave(w0, w1, w2, none);
        v.lower[kw] = interleave(none, w0, w1, w2);
    }
    for (int i = 0; i < 2; i++) {
        v.start[i] = vld1q_s32(p->start + c + 4 * i);
        v.multiplier[i] = vld1q_f32(p->multiplier + c + 4 * i);
    }
    v.r = *r;
    return v;
}

/* Eight channels of one column in both output rows; where there is only one, both are the same. */
INLINE void output(const channels *c, column x0, column x1, column x2, int8_t *upper,
                   int8_t *lower)
{
    int32x4_t acc[4] = {c->start[0], c->start[1], c->start[0], c->start[1]};
    acc[0] = vdotq_s32(acc[0], x0.low, c->upper[0].low);
    acc[1] = vdotq_s32(acc[1], x0.high, c->upper[0].high);
    acc[2] = vdotq_s32(acc[2], x0.low, c->lower[0].low);
    acc[3] = vdotq_s32(acc[3], x0.high, c->lower[0].high);
    acc[0] = vdotq_s32(acc[0], x1.low, c->upper[1].low);
    acc[1] = vdotq_s32(acc[1], x1.high, c->upper[1].high);
    acc[2] = vdotq_s32(acc[2], x1.low, c->lower[1].low);
    acc[3] = vdotq_s32(acc[3], x1.high, c->lower[1].high);
    acc[0] = vdotq_s32(acc[0], x2.low, c->upper[2].low);
    acc[1] = vdotq_s32(acc[1], x2.high, c->upper[2].high);
    acc[2] = vdotq_s32(acc[2], x2.low, c->lower[2].low);
    acc[3] = vdotq_s32(acc[3], x2.high, c->lower[2].high);
    const float32x4_t multipliers[4] = {c->multiplier[0], c->multiplier[1], c->multiplier[0],
                                        c->multiplier[1]};
    const int8x16_t y = ek_requantize16_neon(acc, multipliers, &c->r);
    vst1_s8(lower, vget_high_s8(y));
    vst1_s8(upper, vget_low_s8(y));
}

/* `count` columns of both output rows. Three at a time, so that input columns need not move between
 * registers. */
static void columns(const channels *given, rows4 rows, int32_t count, int8_t *upper, int8_t *lower,
                    ptrdiff_t step)
{
    const channels c = *given;
    column x0 = next_column(&rows), x1 = next_column(&rows), x2;
    int32_t inside = rows.w < 0 ? 0 : rows.width - rows.w; /* columns from here on */
    for (; inside >= 3 && count > 3; inside -= 3, count -= 3) {
        x2 = load_column(&rows);
        output(&c, x0, x1, x2, upper, lower);
        x0 = load_column(&rows);
        output(&c, x1, x2, x0, upper += step, lower += step);
        x1 = load_column(&rows);
        output(&c, x2, x0, x1, upper += step, lower += step);
        upper += step;
        lower += step;
    }
    for (;;) {
        x2 = next_column(&rows);
        output(&c, x0, x1, x2, upper, lower);
        if (--count == 0)
            return;
        x0 = next_column(&rows);
        output(&c, x1, x2, x0, upper += step, lower += step);
        if (--count == 0)
            return;
        x1 = next_column(&rows);
        output(&c, x2, x0, x1, upper += step, lower += step);
        if (--count == 0)
            return;
        upper += step;
        lower += step;
    }
}

/* The rows of two windows, the upper one at (h, w); `image` at the first channel. */
static rows4 rows_at(const ek_conv_params *p, const int8_t *image, int32_t h, int32_t w,
                     const int8_t *outside)
{
    rows4 rows = {.w = w, .width = p->in.w, .outside = vdupq_n_s8((int8_t)p->x_zero)};
    const int8_t *first = image + (ptrdiff_t)ek_max(w, 0) * p->in.w_stride;
    const ptrdiff_t down = p->in.h_stride, step = p->in.w_stride;
#define ROW(i)                                                                                  \
    do {                                                                                        \
        const int inside = h + (i) >= 0 && h + (i) < p->in.h;                                   \
        rows.row##i = inside ? first + (h + (i)) * down : outside;                              \
        rows.step##i = inside ? step : 0;                                                       \
    } while (0)
    ROW(0);
    ROW(1);
    ROW(2);
    ROW(3);
#undef ROW
    return rows;
}

int ek_depthwise_dotprod_supports(const void *params)
{
    const ek_conv_params *p = params;
    return p->kernel_h == 3 && p->kernel_w == 3 && p->stride_h == 1 && p->stride_w == 1
        && p->dilation_h == 1 && p->dilation_w == 1 && p->in.c == p->out.c && p->out.c >= LANES;
}

void ek_depthwise_dotprod(const void *params, const void *const in[], void *out, void *scratch,
                          const ek_range *range)
{
    const ek_conv_params *p = params;
    const requant r = ek_requant_neon_init(&p->clamp);
    const int32_t left = range->col - p->pad_left;
    int8_t outside[LANES];
    (void)scratch;
    if (range->ch_end - range->ch < LANES) {
        ek_depthwise_scalar(params, in, out, NULL, range);
        return;
    }
    memset(outside, p->x_zero, sizeof outside);
    for (int32_t c = range->ch; c < range->ch_end; c += LANES) {
        const int32_t at = ek_min(c, range->ch_end - LANES);
        const channels v = channels_at(p, &r, at);
        for (int32_t row = range->row, next; row < range->row_end; row = next) {
            const int32_t n = row / p->out.h, oh = row % p->out.h;
            const int two = row + 1 < range->row_end && oh + 1 < p->out.h;
            const int8_t *image = (const int8_t *)in[0] + ek_image_at(&p->in, n, 0, 0) + at;
            int8_t *y = (int8_t *)out + ek_image_at(&p->out, n, oh, range->col) + at;
            columns(&v, rows_at(p, image, oh - p->pad_top, left, outside),
                    range->col_end - range->col, y, two ? y + p->out.h_stride : y,
                    p->out.w_stride);
            next = row + 1 + two;
        }
    }
}
