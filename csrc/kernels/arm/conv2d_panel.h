/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolution as a matrix product, the part that is common to the ARM sets: windows become rows of
 * bytes that are multiplied with one tile of output channels after the other. Where the values of a
 * window's rows stand side by side, BLOCK neighbours at a time are read in the input itself;
 * others are gathered in scratch, a panel of a few dozen at a time. The including file has defined
 *
 *     TILE_N, TILE_K   the packing of its weights
 *     BLOCK            rows that it takes at once
 *     multiply(...)    the product of some rows and some tiles
 */
#include <string.h>

#include "../kernels.h"
#include "../window.h"
#include "neon.h"
#include "requant_neon.h"

#define CHUNK 16          /* bytes that a copy moves at once: runs spill into what comes after */
#define PANEL_BYTES 16384 /* leaves room for the weights in a first level cache of 32 KB */
#define PANEL_ROWS 64     /* a multiple of BLOCK */

typedef ek_requant_neon requant;

/* Rows to multiply and where their outputs go. A row has one segment, or its segments are multiples
 * of CHUNK and there are multiples of BLOCK rows. Behind a segment, up to the next multiple of
 * CHUNK, may stand anything that can be read. */
typedef struct conv_rows {
    const int8_t *x;
    ptrdiff_t stride; /* from row to row */
    int32_t count;
    int32_t segments, segment; /* how many, and the values of one */
    ptrdiff_t jump;            /* from a segment to the next */
    int8_t *const *out; /* output channel 0 of each row */
} conv_rows;

/* Whole tiles of output channels. */
typedef struct conv_tiles {
    const int8_t *weights;
    ptrdiff_t bytes; /* of a tile */
    const int32_t *start; /* of all lanes, like `multiplier` */
    const float *multiplier;
    int32_t count;
    int32_t out; /* output channel of the first lane */
    int pairs_fit;   /* see ek_weights */
} conv_tiles;

static void multiply(const conv_tiles *tiles, const conv_rows *rows, const requant *r);

/* What a call needs of its parameters, for one group. */
typedef struct conv_shape {
    int32_t channels, in_channels; /* of a group */
    int32_t depth;                 /* values of a window */
    int32_t row;                   /* bytes of a row in the panel */
    int32_t rows;                  /* of a panel */
    int dense_columns;             /* a window's columns are one run of bytes */
    int direct;                    /* windows can be read in the input */
    ptrdiff_t tile_bytes;
} conv_shape;

static conv_shape conv_shape_of(const ek_conv_params *p)
{
    conv_shape s;
    s.channels = p->out.c / p->groups;
    s.in_channels = p->in.c / p->groups;
    s.depth = p->kernel_h * p->kernel_w * s.in_channels;
    s.row = ek_ceil_div(s.depth, CHUNK) * CHUNK;
    const int64_t windows = (int64_t)p->out.n * p->out.h * p->out.w;
    s.rows = ek_min(ek_max(PANEL_BYTES / s.row / BLOCK * BLOCK, BLOCK), PANEL_ROWS);
    s.rows = windows < s.rows ? (int32_t)windows : s.rows;
    s.dense_columns =
        p->kernel_w == 1 || (p->dilation_w == 1 && p->in.w_stride == s.in_channels);
    s.direct = s.dense_columns
        && (p->kernel_h == 1 || p->kernel_w * s.in_channels % CHUNK == 0);
    s.tile_bytes = (ptrdiff_t)ek_ceil_div(s.depth, TILE_K) * TILE_K * TILE_N;
    return s;
}

/* With what the last run spills. */
static size_t panel_scratch(const conv_shape *s)
{
    return (size_t)s->rows * (size_t)s->row + CHUNK;
}

/* ---- The product ----------------------------------------------------------------------------- */

/* What fills a panel: one group of one input, and where its outputs go. */
typedef struct conv_walk {
    const ek_conv_params *p;
    const conv_shape *s;
    const requant *r;
    const int8_t *end; /* of the input */
    int8_t *panel;
    int32_t rows; /* in the panel */
    int8_t *out[PANEL_ROWS];
    conv_tiles tiles; /* the group's first */
    int8_t lanes[PANEL_ROWS][TILE_N]; /* outputs of a tile that are not all wanted */
    int8_t *to_lanes[PANEL_ROWS];
    int32_t o, o_end;  /* channels of the group that are in the range */
} conv_walk;

/* Copies lanes [first, end) of each row's tile to its output `o`. */
static void store_lanes(const conv_walk *walk, const conv_rows *rows, int32_t first, int32_t end,
                        int32_t o)
{
    for (int32_t i = 0; i < rows->count; i++) {
        const int8_t *from = walk->lanes[i] + first;
        int8_t *to = rows->out[i] + o;
        int32_t left = end - first;
        for (; left >= 8; left -= 8, from += 8, to += 8)
            memcpy(to, from, 8);
        for (; left >= 2; left -= 2, from += 2, to += 2)
            memcpy(to, from, 2);
        if (left > 0)
            *to = *from;
    }
}

/* The tile at channel `n` of which only [first, end) are in the range or exist. */
static void multiply_edge(conv_walk *walk, const conv_rows *rows, int32_t n, int32_t first,
                          int32_t end)
{
    int32_t start[TILE_N] = {0};
    float multiplier[TILE_N] = {0};
    conv_tiles tile = walk->tiles;
    conv_rows to_lanes = *rows;
    memcpy(start + first - n, tile.start + first, (size_t)(end - first) * sizeof start[0]);
    memcpy(multiplier + first - n, tile.multiplier + first,
           (size_t)(end - first) * sizeof multiplier[0]);
    tile.weights += n / TILE_N * tile.bytes;
    tile.start = start;
    tile.multiplier = multiplier;
    tile.count = 1;
    tile.out = 0;
    to_lanes.out = walk->to_lanes;
    multiply(&tile, &to_lanes, walk->r);
    store_lanes(walk, rows, first - n, end - n, walk->tiles.out + first);
}

/* At most PANEL_ROWS rows with all channels of the range. */
static void multiply_rows(conv_walk *walk, const conv_rows *rows)
{
    int32_t n = walk->o / TILE_N * TILE_N;
    if (n < walk->o) {
        multiply_edge(walk, rows, n, walk->o, ek_min(n + TILE_N, walk->o_end));
        n += TILE_N;
    }
    const int32_t whole = (walk->o_end - n) / TILE_N;
    if (whole > 0) {
        conv_tiles tiles = walk->tiles;
        tiles.weights += n / TILE_N * tiles.bytes;
        tiles.start += n;
        tiles.multiplier += n;
        tiles.out += n;
        tiles.count = whole;
        multiply(&tiles, rows, walk->r);
        n += whole * TILE_N;
    }
    if (n < walk->o_end)
        multiply_edge(walk, rows, n, n, walk->o_end);
}

/* ---- Gathering ------------------------------------------------------------------------------- */

INLINE void copy16(const int8_t *from, int8_t *to)
{
    vst1q_s8(to, vld1q_s8(from));
}

/* Copies `count` bytes, and up to CHUNK - 1 more of any value. The input ends at `end`. */
INLINE int8_t *append(int8_t *to, const int8_t *from, int32_t count, const int8_t *end)
{
    int32_t i = 0;
    if (end - from >= count + CHUNK)
        for (; i < count; i += CHUNK)
            copy16(from + i, to + i);
    for (; i < count; i++)
        to[i] = from[i];
    return to + count;
}

INLINE int8_t *append_value(int8_t *to, int32_t count, int32_t value)
{
    const int8x16_t v = vdupq_n_s8((int8_t)value);
    for (int32_t i = 0; i < count; i += CHUNK)
        vst1q_s8(to + i, v);
    return to + count;
}

/* Appends `taps` taps of a window's row, from `from` on. */
static inline int8_t *append_taps(const ek_conv_params *p, const conv_shape *s, int8_t *to,
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
static inline void append_inside(const ek_conv_params *p, const conv_shape *s, int8_t *to,
                                 const int8_t *from, const int8_t *end)
{
    const ptrdiff_t step = (ptrdiff_t)p->dilation_h * p->in.h_stride;
    for (int32_t kh = 0; kh < p->kernel_h; kh++, from += step)
        to = append_taps(p, s, to, from, p->kernel_w, end);
}

/* The same for a window of dense columns far enough from the input's end: `run` is a row's bytes,
 * `wide` a constant: whether they are more than CHUNK. */
INLINE void append_runs(const int wide, int8_t *to, const int8_t *from, int32_t rows, int32_t run,
                        ptrdiff_t step)
{
    do {
        copy16(from, to);
        for (int32_t i = CHUNK; wide && i < run; i += CHUNK)
            copy16(from + i, to + i);
        from += step;
        to += run;
    } while (--rows > 0);
}

/* Appends the window whose first tap is at (h, w), wherever that is. */
static void append_border(const ek_conv_params *p, const conv_shape *s, int8_t *to,
                          const int8_t *image, int32_t h, int32_t w, const int8_t *end)
{
    const int32_t c = s->in_channels;
    const ek_taps cols = ek_taps_inside(w, p->kernel_w, p->dilation_w, p->in.w);
    const int32_t before = cols.first * c, behind = (p->kernel_w - cols.end) * c;
    ptrdiff_t at = ek_image_at(&p->in, 0, h, w + cols.first * p->dilation_w);
    for (int32_t kh = 0; kh < p->kernel_h; kh++) {
        const int32_t ih = h + kh * p->dilation_h;
        if (ih < 0 || ih >= p->in.h || cols.first == cols.end) {
            to = append_value(to, p->kernel_w * c, p->x_zero);
        } else {
            to = append_value(to, before, p->x_zero);
            to = append_taps(p, s, to, image + at, cols.end - cols.first, end);
            to = append_value(to, behind, p->x_zero);
        }
        at += (ptrdiff_t)p->dilation_h * p->in.h_stride;
    }
}

static void finish_panel(conv_walk *walk)
{
    const conv_rows rows = {
        walk->panel, walk->s->row, walk->rows, 1, walk->s->depth, 0, walk->out};
    if (walk->rows > 0)
        multiply_rows(walk, &rows);
    walk->rows = 0;
}

/* The place of the next row, whose outputs go to `out`. */
INLINE int8_t *next_row(conv_walk *walk, int8_t *out)
{
    if (walk->rows == walk->s->rows)
        finish_panel(walk);
    walk->out[walk->rows] = out;
    return walk->panel + (ptrdiff_t)walk->rows++ * walk->s->row;
}

/* ---- Windows --------------------------------------------------------------------------------- */

/* How many of `count` windows of a row can be read 16 bytes at a time: `reach` is from a window's
 * first value to the end of what is read for it. */
static int32_t windows_before_end(const int8_t *from, const int8_t *end, ptrdiff_t step,
                                  ptrdiff_t reach, int32_t count)
{
    const ptrdiff_t room = end - from - reach;
    if (room >= (count - 1) * step)
        return count;
    return room < 0 ? 0 : (int32_t)(room / step) + 1;
}

/* `count` windows that are read in the input; `from` is the first one's first tap. */
static void walk_direct(conv_walk *walk, const int8_t *from, int8_t *out, int32_t count)
{
    const ek_conv_params *p = walk->p;
    int8_t *outs[PANEL_ROWS];
    conv_rows rows = {
        .x = from,
        .stride = (ptrdiff_t)p->stride_w * p->in.w_stride,
        .segments = p->kernel_h,
        .segment = p->kernel_w * walk->s->in_channels,
        .jump = (ptrdiff_t)p->dilation_h * p->in.h_stride,
        .out = outs,
    };
    for (; count > 0; count -= rows.count, rows.x += rows.count * rows.stride) {
        rows.count = ek_min(count, PANEL_ROWS);
        for (int32_t i = 0; i < rows.count; i++, out += p->out.w_stride)
            outs[i] = out;
        multiply_rows(walk, &rows);
    }
}

/* `count` neighbouring windows, `right` bytes apart, to rows of the panel. */
INLINE void append_windows(const int wide, int8_t *to, const int8_t *from, int32_t count,
                           ptrdiff_t right, int32_t rows, int32_t run, ptrdiff_t down, int32_t row)
{
    for (; count > 0; count--, from += right, to += row)
        append_runs(wide, to, from, rows, run, down);
}

/* `count` windows of an output row, all inside the input; `from` is the first one's first tap. */
static void walk_inside(conv_walk *walk, const int8_t *from, int8_t *out, int32_t count)
{
    const ek_conv_params *p = walk->p;
    const conv_shape *s = walk->s;
    const ptrdiff_t step = (ptrdiff_t)p->stride_w * p->in.w_stride;
    const ptrdiff_t down = (ptrdiff_t)p->dilation_h * p->in.h_stride;
    const int32_t run = p->kernel_w * s->in_channels;
    const ptrdiff_t reach = (p->kernel_h - 1) * down + ek_ceil_div(run, CHUNK) * CHUNK;
    int32_t fast = s->dense_columns ? windows_before_end(from, walk->end, step, reach, count) : 0;
    if (s->direct) {
        const int all = p->kernel_h == 1 && fast == s->rows;
        const int32_t direct = all ? fast : fast / BLOCK * BLOCK;
        if (direct > 0)
            walk_direct(walk, from, out, direct);
        from += direct * step;
        out += (ptrdiff_t)direct * p->out.w_stride;
        count -= direct;
        fast -= direct;
    }
    count -= fast;
    while (fast > 0) {
        if (walk->rows == s->rows)
            finish_panel(walk);
        const int32_t fit = ek_min(fast, s->rows - walk->rows);
        int8_t *to = walk->panel + (ptrdiff_t)walk->rows * s->row;
        int8_t **outs = walk->out + walk->rows;
        for (int32_t i = 0; i < fit; i++, out += p->out.w_stride)
            outs[i] = out;
        if (run > CHUNK)
            append_windows(1, to, from, fit, step, p->kernel_h, run, down, s->row);
        else
            append_windows(0, to, from, fit, step, p->kernel_h, run, down, s->row);
        from += fit * step;
        walk->rows += fit;
        fast -= fit;
    }
    for (; count > 0; count--, from += step, out += p->out.w_stride)
        append_inside(p, s, next_row(walk, out), from, walk->end);
}

static void walk_border(conv_walk *walk, const int8_t *image, int32_t h, int32_t col,
                        int32_t col_end, int8_t *out)
{
    const ek_conv_params *p = walk->p;
    for (; col < col_end; col++)
        append_border(p, walk->s, next_row(walk, out + (ptrdiff_t)col * p->out.w_stride), image, h,
                      col * p->stride_w - p->pad_left, walk->end);
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

static void conv_range(const ek_conv_params *p, const conv_shape *s, const int8_t *x, int8_t *y,
                       int8_t *scratch, const ek_range *range)
{
    const requant r = ek_requant_neon_init(&p->clamp);
    const ptrdiff_t group_bytes = ek_ceil_div(s->channels, TILE_N) * s->tile_bytes;
    conv_walk walk;
    walk.p = p;
    walk.s = s;
    walk.r = &r;
    walk.panel = scratch;
    walk.rows = 0;
    for (int32_t i = 0; i < PANEL_ROWS; i++)
        walk.to_lanes[i] = walk.lanes[i];
    walk.end = x + ek_image_at(&p->in, p->in.n - 1, p->in.h - 1, p->in.w - 1) + p->in.c;
    for (int32_t g = range->ch / s->channels; g * s->channels < range->ch_end; g++) {
        const int32_t base = g * s->channels;
        walk.o = ek_max(range->ch - base, 0);
        walk.o_end = ek_min(range->ch_end - base, s->channels);
        walk.tiles = (conv_tiles){
            .weights = p->weights.data + g * group_bytes,
            .bytes = s->tile_bytes,
            .start = p->start + base,
            .multiplier = p->multiplier + base,
            .out = base,
            .pairs_fit = p->weights.pairs_fit,
        };
        walk_group(&walk, x + (ptrdiff_t)g * s->in_channels, y, range);
    }
}

static int conv_supports(const ek_conv_params *p)
{
    return p->weights.tile_n == TILE_N && p->weights.tile_k == TILE_K;
}
