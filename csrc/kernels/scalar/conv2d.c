/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolution with groups, over DENSE or INTERLEAVED weights.
 */
#include <string.h>

#include "../kernels.h"
#include "../requant.h"
#include "../window.h"

#define PATCH_LIMIT 8192 /* bytes of scratch at most */
#define BLOCK 4          /* output channels that share a read of the patch */

/* One group as a matrix: `channels` rows of `depth` = kernel_h * kernel_w * in_channels values. A
 * row is a chain of segments: one for DENSE weights, tile_k long ones for INTERLEAVED. */
typedef struct group_shape {
    int32_t channels, in_channels, depth;
    int32_t segment;     /* values */
    ptrdiff_t step;      /* from a segment to the next */
    ptrdiff_t bytes;     /* of all weights of a group */
} group_shape;

static group_shape shape_of(const ek_conv_params *p)
{
    const int32_t tile_n = p->weights.tile_n, tile_k = p->weights.tile_k;
    group_shape s;
    s.channels = p->out.c / p->groups;
    s.in_channels = p->in.c / p->groups;
    s.depth = p->kernel_h * p->kernel_w * s.in_channels;
    if (tile_n == 0) {
        s.segment = s.depth;
        s.step = s.depth;
        s.bytes = (ptrdiff_t)s.channels * s.depth;
    } else {
        s.segment = tile_k;
        s.step = (ptrdiff_t)tile_n * tile_k;
        s.bytes = s.step * ek_ceil_div(s.channels, tile_n) * ek_ceil_div(s.depth, tile_k);
    }
    return s;
}

/* First weight of output channel `o`. */
static const int8_t *row_of(const ek_conv_params *p, const group_shape *s, int32_t o)
{
    const int8_t *group = p->weights.data + (o / s->channels) * s->bytes;
    const int32_t row = o % s->channels, tile_n = p->weights.tile_n;
    if (tile_n == 0)
        return group + (ptrdiff_t)row * s->depth;
    return group + (row / tile_n) * ek_ceil_div(s->depth, s->segment) * s->step
        + (row % tile_n) * s->segment;
}

static uint32_t dot(const int8_t *x, const int8_t *w, int32_t count)
{
    uint32_t sum = 0;
    for (int32_t i = 0; i < count; i++)
        sum += (uint32_t)(x[i] * w[i]);
    return sum;
}

/* sum[j] += dot(x, w[j]) for BLOCK channels. */
static void dot_block(const int8_t *x, const int8_t *const w[BLOCK], ptrdiff_t at, int32_t count,
                      uint32_t sum[BLOCK])
{
    const int8_t *w0 = w[0] + at, *w1 = w[1] + at, *w2 = w[2] + at, *w3 = w[3] + at;
    uint32_t s0 = sum[0], s1 = sum[1], s2 = sum[2], s3 = sum[3];
    for (int32_t i = 0; i < count; i++) {
        const int32_t v = x[i];
        s0 += (uint32_t)(v * w0[i]);
        s1 += (uint32_t)(v * w1[i]);
        s2 += (uint32_t)(v * w2[i]);
        s3 += (uint32_t)(v * w3[i]);
    }
    sum[0] = s0;
    sum[1] = s1;
    sum[2] = s2;
    sum[3] = s3;
}

/* Output channels [o, o_end) of one pixel, from its patch of `depth` input values. */
static void pixel_from_patch(const ek_conv_params *p, const group_shape *s, const ek_requant *r,
                             const int8_t *patch, int32_t o, int32_t o_end, int8_t *y)
{
    for (; o < o_end; o += BLOCK) {
        const int32_t count = ek_min(BLOCK, o_end - o);
        const int8_t *rows[BLOCK];
        uint32_t acc[BLOCK];
        for (int32_t j = 0; j < BLOCK; j++) {
            const int32_t channel = o + ek_min(j, count - 1);
            rows[j] = row_of(p, s, channel);
            acc[j] = (uint32_t)p->start[channel];
        }
        ptrdiff_t at = 0;
        for (int32_t k = 0; k < s->depth; k += s->segment, at += s->step)
            dot_block(patch + k, rows, at, ek_min(s->segment, s->depth - k), acc);
        for (int32_t j = 0; j < count; j++)
            y[o + j] = ek_requantize(acc[j], p->multiplier[o + j], r);
    }
}

/* One window: its top left corner in the input, taps inside the input, and the input's channels. */
typedef struct window {
    int32_t h, w;
    ek_taps rows, cols;
    const int8_t *image; /* of this n, at the group's first channel */
} window;

static window window_at(const ek_conv_params *p, const int8_t *x, int32_t row, int32_t col)
{
    window win;
    win.h = row % p->out.h * p->stride_h - p->pad_top;
    win.w = col * p->stride_w - p->pad_left;
    win.rows = ek_taps_inside(win.h, p->kernel_h, p->dilation_h, p->in.h);
    win.cols = ek_taps_inside(win.w, p->kernel_w, p->dilation_w, p->in.w);
    win.image = x + ek_image_at(&p->in, row / p->out.h, 0, 0);
    return win;
}

static const int8_t *tap_of(const ek_conv_params *p, const window *win, int32_t kh, int32_t kw)
{
    return win->image
        + ek_image_at(&p->in, 0, win->h + kh * p->dilation_h, win->w + kw * p->dilation_w);
}

/* Whether the columns of a window are one run of bytes. */
static int columns_are_dense(const ek_conv_params *p, const group_shape *s)
{
    return p->kernel_w == 1 || (p->dilation_w == 1 && p->in.w_stride == s->in_channels);
}

/* Copies the window to `patch`, with x_zero where it is outside the input. */
static void gather(const ek_conv_params *p, const group_shape *s, const window *win, int8_t *patch)
{
    const int32_t c = s->in_channels, row_bytes = p->kernel_w * c;
    const ek_taps rows = win->rows, cols = win->cols;
    if (rows.end - rows.first < p->kernel_h || cols.end - cols.first < p->kernel_w)
        memset(patch, p->x_zero, (size_t)s->depth);
    if (cols.first == cols.end)
        return;
    for (int32_t kh = rows.first; kh < rows.end; kh++) {
        int8_t *to = patch + (ptrdiff_t)kh * row_bytes + (ptrdiff_t)cols.first * c;
        if (columns_are_dense(p, s)) {
            memcpy(to, tap_of(p, win, kh, cols.first), (size_t)(cols.end - cols.first) * (size_t)c);
            continue;
        }
        for (int32_t kw = cols.first; kw < cols.end; kw++, to += c)
            memcpy(to, tap_of(p, win, kh, kw), (size_t)c);
    }
}

/* The same sum as pixel_from_patch, tap by tap: for windows too large for scratch. */
static void pixel_by_taps(const ek_conv_params *p, const group_shape *s, const ek_requant *r,
                          const window *win, int32_t o, int32_t o_end, int8_t *y)
{
    const int32_t c = s->in_channels;
    for (; o < o_end; o++) {
        const int8_t *w = row_of(p, s, o);
        uint32_t acc = (uint32_t)p->start[o];
        for (int32_t k = 0; k < s->depth;) {
            const int32_t tap = k / c, kh = tap / p->kernel_w, kw = tap % p->kernel_w;
            const int32_t in_tap = k % c, in_segment = k % s->segment;
            const int32_t count = ek_min(c - in_tap, s->segment - in_segment);
            const int8_t *weights = w + k / s->segment * s->step + in_segment;
            if (kh >= win->rows.first && kh < win->rows.end && kw >= win->cols.first
                && kw < win->cols.end) {
                acc += dot(tap_of(p, win, kh, kw) + in_tap, weights, count);
            } else {
                for (int32_t i = 0; i < count; i++)
                    acc += (uint32_t)(p->x_zero * weights[i]);
            }
            k += count;
        }
        y[o] = ek_requantize(acc, p->multiplier[o], r);
    }
}

static int patch_is_input(const ek_conv_params *p, const group_shape *s, const window *win)
{
    return p->kernel_h == 1 && columns_are_dense(p, s) && win->rows.end - win->rows.first == 1
        && win->cols.end - win->cols.first == p->kernel_w;
}

void ek_conv2d_scalar(const void *params, const void *const in[], void *out, void *scratch,
                      const ek_range *range)
{
    const ek_conv_params *p = params;
    const group_shape s = shape_of(p);
    const ek_requant r = ek_requant_init(&p->clamp);
    const int has_patch = ek_conv2d_scalar_scratch(p) > 0;
    int8_t *patch = scratch;

    for (int32_t row = range->row; row < range->row_end; row++) {
        int8_t *y = (int8_t *)out + ek_image_at(&p->out, row / p->out.h, row % p->out.h, 0);
        for (int32_t col = range->col; col < range->col_end; col++) {
            window win = window_at(p, in[0], row, col);
            const int8_t *image = win.image;
            for (int32_t o = range->ch; o < range->ch_end;) {
                const int32_t group = o / s.channels;
                const int32_t o_end = ek_min(range->ch_end, (group + 1) * s.channels);
                int8_t *pixel = y + (ptrdiff_t)col * p->out.w_stride;
                win.image = image + (ptrdiff_t)group * s.in_channels;
                if (patch_is_input(p, &s, &win)) {
                    pixel_from_patch(p, &s, &r, tap_of(p, &win, 0, 0), o, o_end, pixel);
                } else if (has_patch) {
                    gather(p, &s, &win, patch);
                    pixel_from_patch(p, &s, &r, patch, o, o_end, pixel);
                } else {
                    pixel_by_taps(p, &s, &r, &win, o, o_end, pixel);
                }
                o = o_end;
            }
        }
    }
}

size_t ek_conv2d_scalar_scratch(const void *params)
{
    const ek_conv_params *p = params;
    const size_t taps = (size_t)p->kernel_h * (size_t)p->kernel_w;
    const size_t depth = taps * (size_t)(p->in.c / p->groups);
    return depth <= PATCH_LIMIT ? depth : 0;
}
