/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolution as a matrix product, the part that is common to the x86 sets: a panel of a few dozen
 * windows is widened to int16 rows in scratch, then multiplied with one tile of 16 output channels
 * after the other. The including file has defined
 *
 *     BLOCK                  windows that one call of `multiply` takes at most
 *     widen16(from, to)      16 values, int8 to int16
 *     multiply(&tile, ...)   channels of one tile for up to BLOCK windows
 */
#include <string.h>

#include "../kernels.h"
#include "../window.h"

#define TILE_N 16
#define TILE_K 4
#define CHUNK 16          /* values that `widen16` writes: a run spills into what comes after it */
#define PANEL_BYTES 12288 /* leaves room for the weights in a first level cache of 32 KB */
#define PANEL_WINDOWS 48  /* a multiple of BLOCK */

/* What a call needs of its parameters, for one group. */
typedef struct conv_shape {
    int32_t channels, in_channels; /* of a group */
    int32_t steps;                 /* of TILE_K values through a row */
    int32_t row;                   /* values of a row in the panel */
    int32_t windows;               /* rows of a panel */
    int dense_columns;             /* a window's columns are one run of bytes */
    ptrdiff_t tile_bytes;
} conv_shape;

/* One tile of output channels. Only lanes [first, end) are in the range. */
typedef struct conv_tile {
    const int8_t *weights; /* [steps][TILE_N][TILE_K] */
    const int32_t *start;
    const float *multiplier;
    int32_t steps, row;
    int32_t first, end;
} conv_tile;

typedef struct conv_panel {
    int16_t *x;
    int32_t windows;
    int8_t *out[PANEL_WINDOWS]; /* output channel 0 of each window */
} conv_panel;

static conv_shape conv_shape_of(const ek_conv_params *p)
{
    conv_shape s;
    s.channels = p->out.c / p->groups;
    s.in_channels = p->in.c / p->groups;
    const int32_t depth = p->kernel_h * p->kernel_w * s.in_channels;
    s.steps = ek_ceil_div(depth, TILE_K);
    s.row = s.steps * TILE_K;
    const int64_t windows = (int64_t)p->out.n * p->out.h * p->out.w;
    const int32_t fit = PANEL_BYTES / (int32_t)sizeof(int16_t) / s.row / BLOCK * BLOCK;
    s.windows = ek_min(ek_max(fit, BLOCK), PANEL_WINDOWS);
    s.windows = windows < s.windows ? (int32_t)windows : s.windows;
    s.dense_columns =
        p->kernel_w == 1 || (p->dilation_w == 1 && p->in.w_stride == s.in_channels);
    s.tile_bytes = (ptrdiff_t)s.row * TILE_N;
    return s;
}

/* The widest a row gets while its last run is appended. */
static size_t conv_scratch(const ek_conv_params *p)
{
    const conv_shape s = conv_shape_of(p);
    return ((size_t)s.windows * (size_t)s.row + CHUNK) * sizeof(int16_t);
}

/* Widens `count` values to `to`, and up to CHUNK - 1 more of any value. The input ends at `end`. */
static inline int16_t *append(int16_t *to, const int8_t *from, int32_t count, const int8_t *end)
{
    int32_t i = 0;
    for (; i < count && end - from - i >= CHUNK; i += CHUNK)
        widen16(from + i, to + i);
    for (; i < count; i++)
        to[i] = from[i];
    return to + count;
}

static inline int16_t *append_zero(int16_t *to, int32_t count, int32_t zero)
{
    for (int32_t i = 0; i < count; i++)
        to[i] = (int16_t)zero;
    return to + count;
}

/* Appends the window whose top left tap is (h, w) of `image`. */
static inline void append_window(const ek_conv_params *p, const conv_shape *s, const int8_t *image,
                                 int32_t h, int32_t w, const int8_t *end, int16_t *to)
{
    const int32_t c = s->in_channels;
    const ek_taps cols = ek_taps_inside(w, p->kernel_w, p->dilation_w, p->in.w);
    for (int32_t kh = 0; kh < p->kernel_h; kh++) {
        const int32_t ih = h + kh * p->dilation_h;
        if (ih < 0 || ih >= p->in.h || cols.first == cols.end) {
            to = append_zero(to, p->kernel_w * c, p->x_zero);
            continue;
        }
        const int8_t *from = image + ek_image_at(&p->in, 0, ih, w + cols.first * p->dilation_w);
        to = append_zero(to, cols.first * c, p->x_zero);
        if (s->dense_columns) {
            to = append(to, from, (cols.end - cols.first) * c, end);
        } else {
            for (int32_t kw = cols.first; kw < cols.end; kw++) {
                to = append(to, from, c, end);
                from += (ptrdiff_t)p->dilation_w * p->in.w_stride;
            }
        }
        to = append_zero(to, (p->kernel_w - cols.end) * c, p->x_zero);
    }
}

/* Multiplies the panel with output channels [o, o_end) of one group. */
static void multiply_panel(const ek_conv_params *p, const conv_shape *s, const conv_panel *panel,
                           int32_t group, int32_t o, int32_t o_end, const requant *r)
{
    const int32_t base = group * s->channels;
    const int8_t *weights =
        p->weights.data + group * ek_ceil_div(s->channels, TILE_N) * s->tile_bytes;
    for (int32_t n = (o - base) / TILE_N * TILE_N; n < o_end - base; n += TILE_N) {
        int32_t start[TILE_N] = {0};
        float multiplier[TILE_N] = {0};
        const int32_t lanes = ek_min(TILE_N, s->channels - n);
        memcpy(start, p->start + base + n, (size_t)lanes * sizeof start[0]);
        memcpy(multiplier, p->multiplier + base + n, (size_t)lanes * sizeof multiplier[0]);

        const conv_tile tile = {
            .weights = weights + n / TILE_N * s->tile_bytes,
            .start = start,
            .multiplier = multiplier,
            .steps = s->steps,
            .row = s->row,
            .first = ek_max(o - base - n, 0),
            .end = ek_min(o_end - base - n, TILE_N),
        };
        for (int32_t i = 0; i < panel->windows; i += BLOCK)
            multiply(&tile, panel->x + (ptrdiff_t)i * s->row, panel->out + i, base + n,
                     ek_min(BLOCK, panel->windows - i), r);
    }
}

/* All panels of the range, for one group. */
static void conv_group(const ek_conv_params *p, const conv_shape *s, const int8_t *x, int8_t *y,
                       int16_t *scratch, const ek_range *range, int32_t group, const requant *r)
{
    const int32_t o = ek_max(range->ch, group * s->channels);
    const int32_t o_end = ek_min(range->ch_end, (group + 1) * s->channels);
    const int8_t *end =
        x + ek_image_at(&p->in, p->in.n - 1, p->in.h - 1, p->in.w - 1) + p->in.c;
    conv_panel panel = {.x = scratch, .windows = 0};

    for (int32_t row = range->row; row < range->row_end; row++) {
        const int32_t n = row / p->out.h, oh = row % p->out.h;
        const int8_t *image = x + ek_image_at(&p->in, n, 0, 0) + (ptrdiff_t)group * s->in_channels;
        int8_t *out = y + ek_image_at(&p->out, n, oh, 0);
        for (int32_t ow = range->col; ow < range->col_end; ow++) {
            append_window(p, s, image, oh * p->stride_h - p->pad_top,
                          ow * p->stride_w - p->pad_left, end,
                          panel.x + (ptrdiff_t)panel.windows * s->row);
            panel.out[panel.windows++] = out + (ptrdiff_t)ow * p->out.w_stride;
            if (panel.windows == s->windows) {
                multiply_panel(p, s, &panel, group, o, o_end, r);
                panel.windows = 0;
            }
        }
    }
    if (panel.windows > 0)
        multiply_panel(p, s, &panel, group, o, o_end, r);
}

static void conv_range(const ek_conv_params *p, const int8_t *x, int8_t *y, int16_t *scratch,
                       const ek_range *range, const requant *r)
{
    const conv_shape s = conv_shape_of(p);
    for (int32_t g = range->ch / s.channels; g * s.channels < range->ch_end; g++)
        conv_group(p, &s, x, y, scratch, range, g, r);
}

static int conv_supports(const ek_conv_params *p)
{
    return p->weights.tile_n == TILE_N && p->weights.tile_k == TILE_K;
}
