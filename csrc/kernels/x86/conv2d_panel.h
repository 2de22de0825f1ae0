/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolution as a matrix product, the part that is common to the x86 sets: a panel of a few dozen
 * windows is widened to int16 rows in scratch, then multiplied with one tile of 16 output channels
 * after the other. The including file has defined
 *
 *     BLOCK                  windows that one call of `multiply` takes at most
 *     widen16(from, to)      16 values, int8 to int16
 *     fill16(value, to)      16 times the same
 *     multiply(&tile, ...)   channels of one tile for up to BLOCK windows
 */
#include <string.h>

#include "../kernels.h"
#include "../window.h"

#define TILE_N 16
#define TILE_K 4
#define CHUNK 16          /* values that `widen16` writes: a run spills into what comes after it */
#define PANEL_BYTES 16384 /* leaves room for the weights in a first level cache of 32 KB */
#define PANEL_WINDOWS 48  /* a multiple of BLOCK */

/* What a call needs of its parameters, for one group. */
typedef struct conv_shape {
    int32_t channels, in_channels; /* of a group */
    int32_t steps;                 /* of TILE_K values through a row */
    int32_t row;                   /* values of a row in the panel */
    int32_t windows;               /* rows of a panel */
    int dense_columns;             /* a window's columns are one run of bytes */
    int dense_rows;                /* so are the windows of an output row, without gap or overlap */
    ptrdiff_t tile_bytes;
} conv_shape;

/* One tile of output channels. Only lanes [first, end) are in the range. */
typedef struct conv_tile {
    const int8_t *weights; /* [steps][TILE_N][TILE_K] */
    const int32_t *start;    /* of all lanes, like `multiplier` */
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
    s.dense_rows = p->kernel_h == 1 && p->kernel_w == 1 && p->stride_w == 1
        && p->in.w_stride == s.row && s.in_channels == s.row;
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
    for (int32_t i = 0; i < count; i += CHUNK)
        fill16(zero, to + i);
    return to + count;
}

/* Appends `taps` taps of a window's row, from `from` on. */
static inline int16_t *append_taps(const ek_conv_params *p, const conv_shape *s, int16_t *to,
                                   const int8_t *from, int32_t taps, const int8_t *end)
{
    const int32_t c = s->in_channels;
    if (s->dense_columns)
        return append(to, from, taps * c, end);
    for (int32_t kw = 0; kw < taps; kw++) {
        to = append(to, from, c, end);
        from += (ptrdiff_t)p->dilation_w * p->in.w_stride;
    }
    return to;
}

/* Appends a window that lies inside the input; `from` is its first tap. */
static inline void append_inside(const ek_conv_params *p, const conv_shape *s, int16_t *to,
                                 const int8_t *from, const int8_t *end)
{
    const ptrdiff_t step = (ptrdiff_t)p->dilation_h * p->in.h_stride;
    const int32_t run = p->kernel_w * s->in_channels;
    int32_t kh = 0;
    if (s->dense_columns && run <= CHUNK && end - from - (p->kernel_h - 1) * step >= CHUNK) {
        for (; kh < p->kernel_h; kh++, from += step, to += run)
            widen16(from, to);
        return;
    }
    for (; kh < p->kernel_h; kh++, from += step)
        to = append_taps(p, s, to, from, p->kernel_w, end);
}

/* Appends the window whose first tap is at (h, w), wherever that is. */
static void append_border(const ek_conv_params *p, const conv_shape *s, int16_t *to,
                          const int8_t *image, int32_t h, int32_t w, const int8_t *end)
{
    const int32_t c = s->in_channels;
    const ek_taps cols = ek_taps_inside(w, p->kernel_w, p->dilation_w, p->in.w);
    const int32_t before = cols.first * c, behind = (p->kernel_w - cols.end) * c;
    ptrdiff_t at = ek_image_at(&p->in, 0, h, w + cols.first * p->dilation_w);
    for (int32_t kh = 0; kh < p->kernel_h; kh++) {
        const int32_t ih = h + kh * p->dilation_h;
        if (ih < 0 || ih >= p->in.h || cols.first == cols.end) {
            to = append_zero(to, p->kernel_w * c, p->x_zero);
        } else {
            to = append_zero(to, before, p->x_zero);
            to = append_taps(p, s, to, image + at, cols.end - cols.first, end);
            to = append_zero(to, behind, p->x_zero);
        }
        at += (ptrdiff_t)p->dilation_h * p->in.h_stride;
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
        int32_t start[TILE_N];
        float multiplier[TILE_N];
        const int32_t lanes = s->channels - n;
        conv_tile tile = {
            .weights = weights + n / TILE_N * s->tile_bytes,
            .start = p->start + base + n,
            .multiplier = p->multiplier + base + n,
            .steps = s->steps,
            .row = s->row,
            .first = ek_max(o - base - n, 0),
            .end = ek_min(o_end - base - n, TILE_N),
        };
        if (lanes < TILE_N) {
            memset(start, 0, sizeof start);
            memset(multiplier, 0, sizeof multiplier);
            memcpy(start, tile.start, (size_t)lanes * sizeof start[0]);
            memcpy(multiplier, tile.multiplier, (size_t)lanes * sizeof multiplier[0]);
            tile.start = start;
            tile.multiplier = multiplier;
        }
        for (int32_t i = 0; i < panel->windows; i += BLOCK)
            multiply(&tile, panel->x + (ptrdiff_t)i * s->row, panel->out + i, base + n,
                     ek_min(BLOCK, panel->windows - i), r);
    }
}

/* What fills a panel: one group of one input, and where its outputs go. */
typedef struct conv_walk {
    const ek_conv_params *p;
    const conv_shape *s;
    const requant *r;
    const int8_t *end; /* of the input */
    conv_panel panel;
    int32_t group, o, o_end;
} conv_walk;

static void finish_panel(conv_walk *walk)
{
    if (walk->panel.windows > 0)
        multiply_panel(walk->p, walk->s, &walk->panel, walk->group, walk->o, walk->o_end, walk->r);
    walk->panel.windows = 0;
}

/* The place of the next window, whose outputs go to `out`. */
static inline int16_t *next_window(conv_walk *walk, int8_t *out)
{
    conv_panel *panel = &walk->panel;
    if (panel->windows == walk->s->windows)
        finish_panel(walk);
    panel->out[panel->windows] = out;
    return panel->x + (ptrdiff_t)panel->windows++ * walk->s->row;
}

/* `count` windows of an output row, all inside the input; `from` is the first one's first tap. */
static void walk_inside(conv_walk *walk, const int8_t *from, int8_t *out, int32_t count)
{
    const ek_conv_params *p = walk->p;
    const ptrdiff_t step = (ptrdiff_t)p->stride_w * p->in.w_stride;
    while (count > 0) {
        int16_t *to = next_window(walk, out);
        int32_t windows = 1;
        if (walk->s->dense_rows) {
            windows = ek_min(count, walk->s->windows - walk->panel.windows + 1);
            for (int32_t i = 1; i < windows; i++)
                walk->panel.out[walk->panel.windows++] = out + (ptrdiff_t)i * p->out.w_stride;
            append(to, from, windows * walk->s->row, walk->end);
        } else {
            append_inside(p, walk->s, to, from, walk->end);
        }
        from += windows * step;
        out += (ptrdiff_t)windows * p->out.w_stride;
        count -= windows;
    }
}

static void walk_border(conv_walk *walk, const int8_t *image, int32_t h, int32_t col,
                        int32_t col_end, int8_t *out)
{
    const ek_conv_params *p = walk->p;
    for (; col < col_end; col++)
        append_border(p, walk->s, next_window(walk, out + (ptrdiff_t)col * p->out.w_stride), image,
                      h, col * p->stride_w - p->pad_left, walk->end);
}

static void walk_group(conv_walk *walk, const int8_t *x, int8_t *y, const ek_range *range)
{
    const ek_conv_params *p = walk->p;
    const ek_taps inside = ek_columns_inside(p, range);
    const int32_t span_h = (p->kernel_h - 1) * p->dilation_h + 1;
    for (int32_t row = range->row; row < range->row_end; row++) {
        const int32_t n = row / p->out.h, oh = row % p->out.h;
        const int32_t h = oh * p->stride_h - p->pad_top;
        const int8_t *image = x + ek_image_at(&p->in, n, 0, 0);
        int8_t *out = y + ek_image_at(&p->out, n, oh, 0);
        if (h < 0 || h > p->in.h - span_h || inside.first == inside.end) {
            walk_border(walk, image, h, range->col, range->col_end, out);
            continue;
        }
        walk_border(walk, image, h, range->col, inside.first, out);
        walk_inside(walk,
                    image + ek_image_at(&p->in, 0, h, inside.first * p->stride_w - p->pad_left),
                    out + (ptrdiff_t)inside.first * p->out.w_stride, inside.end - inside.first);
        walk_border(walk, image, h, inside.end, range->col_end, out);
    }
    finish_panel(walk);
}

static void conv_range(const ek_conv_params *p, const int8_t *x, int8_t *y, int16_t *scratch,
                       const ek_range *range, const requant *r)
{
    const conv_shape s = conv_shape_of(p);
    conv_walk walk = {.p = p, .s = &s, .r = r, .panel = {.x = scratch, .windows = 0}};
    walk.end = x + ek_image_at(&p->in, p->in.n - 1, p->in.h - 1, p->in.w - 1) + p->in.c;
    for (int32_t g = range->ch / s.channels; g * s.channels < range->ch_end; g++) {
        walk.group = g;
        walk.o = ek_max(range->ch, g * s.channels);
        walk.o_end = ek_min(range->ch_end, (g + 1) * s.channels);
        walk_group(&walk, x + (ptrdiff_t)g * s.in_channels, y, range);
    }
}

static int conv_supports(const ek_conv_params *p)
{
    return p->weights.tile_n == TILE_N && p->weights.tile_k == TILE_K;
}
