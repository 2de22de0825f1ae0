/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolution as a matrix product, the part that is common to the x86 sets: a panel of a few dozen
 * windows is widened to int16 rows in scratch, then multiplied with one tile of 16 output channels
 * after the other. Where a panel has many windows, the tile's weights are widened in scratch, too
 * (conv2d_wide.h), else in registers. The including file has included conv2d_wide.h and defined
 *
 *     BLOCK                      windows that one call of `multiply` takes at most
 *     widen16(from, to)          16 values, int8 to int16
 *     widen_copies16(from, to)   the same with COPIES of each pair
 *     copy_pairs(from, n, to)    so many of n int16, where COPIES is not 1
 *     fill16(value, to)          16 times the same
 *     multiply(&tile, ...)       channels of one tile for up to BLOCK windows
 */
#include <string.h>

#include "../kernels.h"
#include "../window.h"

#define TILE_N 16
#define TILE_K 4
#define CHUNK 16          /* values that `widen16` writes: a run spills into what comes after it */
#define PANEL_BYTES 16384 /* leaves room for the weights in a first level cache of 32 KB */
#define PANEL_WINDOWS 96  /* a multiple of BLOCK */

/* Weights are widened in scratch where a panel of WIDE_BYTES holds WIDE_WINDOWS, of WIDE_LEAST or
 * more that a call computes; those of all tiles once in a call, if they are KEPT_BYTES at most. */
#define WIDE_BYTES 32768
#define WIDE_WINDOWS 36
#define WIDE_LEAST 30
#define KEPT_BYTES 32768

/* Activations of a window for each output channel, from which on copying pairs takes more time than
 * wide weights save. */
#define COPIED_MOST 6

/* What a call needs of its parameters, for one group. */
typedef struct conv_shape {
    int32_t channels, in_channels; /* of a group */
    int32_t steps;                 /* of TILE_K values through a row */
    int32_t row;                   /* values of a window */
    ptrdiff_t x_row;               /* of its row in the panel: with copies, if `wide` */
    int32_t windows;               /* rows of a panel */
    int wide;                      /* weights are widened in scratch */
    int kept;                      /* and stay there for all panels */
    int copied;                    /* copies of pairs are made when a panel is complete */
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
    int16_t *rows;    /* where windows are appended: `x`, or rows without copies */
    int16_t *weights; /* widened, of all tiles or of one */
    int ready;        /* they are those of this group */
    int large;        /* as in wide_weights */
    int32_t windows;
    int8_t *out[PANEL_WINDOWS]; /* output channel 0 of each window */
} conv_panel;

/* Windows of `row` values that a panel of `bytes` holds. */
static int32_t panel_windows(int32_t bytes, int32_t row)
{
    const int32_t fit = bytes / (int32_t)sizeof(int16_t) / row / BLOCK * BLOCK;
    return ek_min(ek_max(fit, BLOCK), PANEL_WINDOWS);
}

/* Whole blocks for panels of at most `most` windows that hold about as many each. */
static int32_t even_panels(int64_t windows, int32_t most)
{
    const int64_t panels = (windows - 1) / most + 1;
    return (int32_t)((windows - 1) / panels / BLOCK + 1) * BLOCK;
}

/* Whether no window reaches beyond the input, for 1x1. */
static int all_inside(const ek_conv_params *p)
{
    return p->pad_top == 0 && p->pad_left == 0 && (p->out.h - 1) * p->stride_h < p->in.h
        && (p->out.w - 1) * p->stride_w < p->in.w;
}

/* For a call that computes so many windows: the fewer they are, the less scratch it takes. */
static conv_shape conv_shape_of(const ek_conv_params *p, int64_t windows)
{
    conv_shape s;
    s.channels = p->out.c / p->groups;
    s.in_channels = p->in.c / p->groups;
    const int32_t depth = p->kernel_h * p->kernel_w * s.in_channels;
    s.steps = ek_ceil_div(depth, TILE_K);
    s.row = s.steps * TILE_K;
    s.dense_columns =
        p->kernel_w == 1 || (p->dilation_w == 1 && p->in.w_stride == s.in_channels);
    s.dense_rows = p->kernel_h == 1 && p->kernel_w == 1 && p->stride_w == 1
        && p->in.w_stride == s.row && s.in_channels == s.row && all_inside(p);
    s.tile_bytes = (ptrdiff_t)s.row * TILE_N;
    const int32_t most = panel_windows(WIDE_BYTES / COPIES, s.row);
    const int copied = COPIES > 1 && !s.dense_rows;
    s.wide = most >= WIDE_WINDOWS && windows >= WIDE_LEAST && s.channels > LANES
        && !(copied && s.row / COPIED_MOST > s.channels);
    s.copied = s.wide && copied;
    s.x_row = s.wide ? COPIES * (ptrdiff_t)s.row : s.row;
    s.windows = s.wide ? most : panel_windows(PANEL_BYTES, s.row);
    s.windows = windows < s.windows ? (int32_t)windows : s.windows;
    const ptrdiff_t tiles = ek_ceil_div(s.channels, TILE_N);
    s.kept = tiles <= KEPT_BYTES / (ptrdiff_t)sizeof(int16_t) / s.tile_bytes;
    return s;
}

/* Values of a panel in scratch, with those that the last run spills. Wide ones are whole blocks, of
 * which the last windows may hold anything. */
static size_t panel_values(const conv_shape *s)
{
    const int32_t windows = s->wide ? ek_ceil_div(s->windows, BLOCK) * BLOCK : s->windows;
    return ((size_t)windows * (size_t)s->x_row + COPIES * CHUNK + 31) / 32 * 32;
}

static size_t weight_values(const conv_shape *s)
{
    const int32_t tiles = s->kept ? ek_ceil_div(s->channels, TILE_N) : 1;
    return s->wide ? (size_t)tiles * (size_t)s->tile_bytes : 0;
}

static size_t conv_scratch(const ek_conv_params *p)
{
    const conv_shape s = conv_shape_of(p, (int64_t)p->out.n * p->out.h * p->out.w);
    const size_t rows = s.copied ? (size_t)s.windows * (size_t)s.row + CHUNK : 0;
    return (panel_values(&s) + weight_values(&s) + rows) * sizeof(int16_t);
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

/* Widens `count` values to `to`, with copies, and up to CHUNK - 1 more of any value. */
static void append_copies(int16_t *to, const int8_t *from, int32_t count, const int8_t *end)
{
    const ptrdiff_t safe = (end - from) / CHUNK * CHUNK;
    const int32_t whole = count < safe ? count : (int32_t)safe;
    int32_t i = 0;
    for (; i < whole; i += CHUNK)
        widen_copies16(from + i, to + COPIES * i);
    if (i < count) {
        int8_t rest[CHUNK] = {0};
        memcpy(rest, from + i, (size_t)(count - i));
        widen_copies16(rest, to + COPIES * i);
    }
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

/* A block of the panel of which only some windows, or some of the tile's channels, are wanted. */
static void multiply_part(const conv_shape *s, const conv_tile *tile, const wide_weights *weights,
                          int32_t lane, const int16_t *x, int8_t *const *out, int32_t windows,
                          const requant *r)
{
    int8_t buffer[BLOCK][WIDE_N], *to[BLOCK];
    for (int32_t i = 0; i < BLOCK; i++)
        to[i] = buffer[i];
    multiply_wide(weights, x, s->x_row, to, 0, r);
    const int32_t first = ek_max(tile->first - lane, 0), end = ek_min(tile->end - lane, WIDE_N);
    for (int32_t i = 0; i < windows; i++)
        memcpy(out[i] + lane + first, buffer[i] + first, (size_t)(end - first));
}

/* WIDE_N channels from `lane` on of all windows; `o` is the tile's first output channel. */
static void multiply_lanes(const conv_shape *s, const conv_tile *tile, const wide_weights *weights,
                           int32_t lane, const conv_panel *panel, int32_t o, const requant *r)
{
    const int whole = tile->first <= lane && lane + WIDE_N <= tile->end;
    const int16_t *x = panel->x;
    for (int32_t i = 0; i < panel->windows; i += BLOCK, x += BLOCK * s->x_row) {
        const int32_t windows = ek_min(BLOCK, panel->windows - i);
        if (whole && windows == BLOCK) {
            multiply_wide(weights, x, s->x_row, panel->out + i, o + lane, r);
            continue;
        }
        int8_t *out[BLOCK];
        for (int32_t j = 0; j < windows; j++)
            out[j] = panel->out[i + j] + o;
        multiply_part(s, tile, weights, lane, x, out, windows, r);
    }
}

/* The weights of all lanes of a tile. */
static void widen_tile(const conv_shape *s, const int8_t *weights, int16_t *to)
{
    for (int32_t lane = 0; lane < TILE_N; lane += WIDE_N)
        for (int32_t i = 0; i < s->steps; i++, to += TILE_K * WIDE_N)
            widen_weights(weights + (i * TILE_N + lane) * TILE_K, to);
}

/* Multiplies the panel with one tile of channels, the i-th of its group, from `o` on. */
static void multiply_tile(const conv_shape *s, const conv_tile *tile, const conv_panel *panel,
                          int32_t i, int32_t o, const requant *r)
{
    int16_t *w = panel->weights + (s->kept ? i * s->tile_bytes : 0);
    if (!panel->ready)
        widen_tile(s, tile->weights, w);
    for (int32_t lane = tile->first / WIDE_N * WIDE_N; lane < tile->end; lane += WIDE_N) {
        const int16_t *const first = w + (ptrdiff_t)lane * s->row;
        const wide_weights weights = {first, first + (ptrdiff_t)WIDE_N * s->row, tile->start + lane,
                                      tile->multiplier + lane, panel->large};
        multiply_lanes(s, tile, &weights, lane, panel, o, r);
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
        /* `multiply` does a few channels faster, but knows no copies. */
        if (s->wide && (COPIES > 1 || tile.end - tile.first > LANES)) {
            multiply_tile(s, &tile, panel, n / TILE_N, base + n, r);
            continue;
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
#if COPIES > 1
    if (walk->s->copied)
        copy_pairs(walk->panel.rows, walk->panel.windows * walk->s->row, walk->panel.x);
#endif
    if (walk->panel.windows > 0)
        multiply_panel(walk->p, walk->s, &walk->panel, walk->group, walk->o, walk->o_end, walk->r);
    walk->panel.windows = 0;
    walk->panel.ready = walk->s->kept;
}

/* The place of the next window, whose outputs go to `out`. */
static inline int16_t *next_window(conv_walk *walk, int8_t *out)
{
    conv_panel *panel = &walk->panel;
    if (panel->windows == walk->s->windows)
        finish_panel(walk);
    panel->out[panel->windows] = out;
    return panel->rows + panel->windows++ * (walk->s->copied ? walk->s->row : walk->s->x_row);
}

/* Of `count` windows, `step` apart, behind the one whose outputs go to `out`. */
static void add_windows(conv_panel *panel, int8_t *out, ptrdiff_t step, int32_t count)
{
    int8_t **to = panel->out + panel->windows, **const end = to + count;
    while (to < end)
        *to++ = out += step;
    panel->windows += count;
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
            add_windows(&walk->panel, out, p->out.w_stride, windows - 1);
            if (walk->s->wide)
                append_copies(to, from, windows * walk->s->row, walk->end);
            else
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

/* Whether a multiplier of the range is 1 or more. */
static int any_large(const ek_conv_params *p, const ek_range *range)
{
    int large = 0;
    for (int32_t o = range->ch; o < range->ch_end; o++)
        large |= !(p->multiplier[o] < 1.0f);
    return large;
}

static void conv_range(const ek_conv_params *p, const int8_t *x, int8_t *y, int16_t *scratch,
                       const ek_range *range, const requant *r)
{
    const int64_t windows =
        (int64_t)(range->row_end - range->row) * (range->col_end - range->col);
    conv_shape s = conv_shape_of(p, windows);
    conv_walk walk = {.p = p, .s = &s, .r = r, .panel = {.x = scratch, .rows = scratch}};
    if (s.wide) {
        walk.panel.weights = scratch + panel_values(&s);
        walk.panel.large = any_large(p, range);
    }
    if (s.copied)
        walk.panel.rows = walk.panel.weights + weight_values(&s);
    if (s.wide)
        s.windows = even_panels(windows, s.windows);
    walk.end = x + ek_image_at(&p->in, p->in.n - 1, p->in.h - 1, p->in.w - 1) + p->in.c;
    for (int32_t g = range->ch / s.channels; g * s.channels < range->ch_end; g++) {
        walk.group = g;
        walk.panel.ready = 0;
        walk.o = ek_max(range->ch, g * s.channels);
        walk.o_end = ek_min(range->ch_end, (g + 1) * s.channels);
        walk_group(&walk, x + (ptrdiff_t)g * s.in_channels, y, range);
    }
}

static int conv_supports(const ek_conv_params *p)
{
    return p->weights.tile_n == TILE_N && p->weights.tile_k == TILE_K;
}
