/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolution as a matrix product, the part that is common to the ARM sets: windows are rows of
 * bytes that are multiplied with one tile of output channels after the other. A band of the input
 * is copied to scratch with the padding in place, so that no window has a border. Where the rows
 * of a window can be read there one after the other, they are; else they are joined in scratch, a
 * panel of a few dozen windows at a time. 1x1 windows are read in the input itself. The including
 * file has defined
 *
 *     TILE_N, TILE_K   the packing of its weights
 *     BLOCK            rows that it takes at once
 *     multiply(...)    the product of some rows and some tiles
 *     HALF             if it has multiply_half(...): only that many channels of one tile
 */
#include <string.h>

#include "../kernels.h"
#include "../window.h"
#include "neon.h"
#include "requant_neon.h"

#define CHUNK 16          /* bytes that a copy moves at once: runs spill into what comes after */
#define PANEL_BYTES 16384 /* leaves room for the weights in a first level cache of 32 KB */
#define PANEL_ROWS 64     /* a multiple of BLOCK */
#define BAND_BYTES 16384  /* as many, unless too few windows fit */
#define BAND_WINDOWS 32   /* too few: all weights are read for them */
#define LARGE_BAND_BYTES 65536

typedef ek_requant_neon requant;

/* A window's first value, and output channel 0 of its outputs. */
typedef struct conv_row {
    const int8_t *x;
    int8_t *out;
} conv_row;

/* Rows to multiply. A row has one segment, or its segments are multiples of CHUNK. Behind a
 * segment, up to the next multiple of CHUNK, may stand anything that can be read. */
typedef struct conv_rows {
    const conv_row *row;
    int32_t count;
    int32_t segments, segment; /* how many, and the values of one */
    ptrdiff_t jump;            /* from a segment to the next */
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
#ifdef HALF
static void multiply_half(const conv_tiles *tile, const conv_rows *rows, const requant *r);
#endif

/* Where windows are read. */
typedef enum conv_source {
    FROM_INPUT,   /* 1x1 without padding */
    FROM_BAND,    /* in the band; each row of a window is a segment */
    FROM_PANEL,   /* in the panel, joined from the band */
    GATHERED      /* in the panel, tap by tap from the input: dilation */
} conv_source;

/* What a call needs of its parameters, for one group. */
typedef struct conv_shape {
    int32_t channels, in_channels; /* of a group */
    int32_t depth;                 /* values of a window */
    int32_t row;                   /* bytes of a row in the panel */
    int32_t rows;                  /* of a panel */
    int32_t band_rows, band_cols;  /* output rows and columns of a band */
    ptrdiff_t band_bytes;
    conv_source source;
    ptrdiff_t tile_bytes;
} conv_shape;

/* Input positions that `count` windows touch. */
static int64_t span(int32_t count, int32_t stride, int32_t kernel)
{
    return (int64_t)(count - 1) * stride + kernel;
}

/* How many windows, at least one and at most `wanted`, touch at most `positions`. */
static int32_t windows_in(int64_t positions, int32_t stride, int32_t kernel, int32_t wanted)
{
    const int64_t fit = (positions - kernel) / stride + 1;
    return positions < kernel ? 1 : fit < wanted ? (int32_t)fit : wanted;
}

/* A band of about `bytes`: whole output rows, or part of one. */
static void plan_band(conv_shape *s, const ek_conv_params *p, int64_t bytes)
{
    s->band_cols = windows_in(bytes / p->kernel_h / s->in_channels, p->stride_w, p->kernel_w,
                              p->out.w);
    const int64_t row = span(s->band_cols, p->stride_w, p->kernel_w) * s->in_channels;
    s->band_rows = s->band_cols < p->out.w
        ? 1
        : windows_in(bytes / row, p->stride_h, p->kernel_h, p->out.h);
    s->band_bytes = (ptrdiff_t)(span(s->band_rows, p->stride_h, p->kernel_h) * row);
}

static int is_pointwise(const ek_conv_params *p)
{
    return p->kernel_h == 1 && p->kernel_w == 1 && p->pad_top == 0 && p->pad_left == 0
        && (p->out.h - 1) * p->stride_h < p->in.h && (p->out.w - 1) * p->stride_w < p->in.w;
}

static conv_source conv_source_of(const ek_conv_params *p, int32_t in_channels)
{
    if (is_pointwise(p))
        return FROM_INPUT;
    if (p->dilation_h > 1 || p->dilation_w > 1)
        return GATHERED;
    return p->kernel_h == 1 || p->kernel_w * in_channels % CHUNK == 0 ? FROM_BAND : FROM_PANEL;
}

static conv_shape conv_shape_of(const ek_conv_params *p)
{
    conv_shape s = {0};
    s.channels = p->out.c / p->groups;
    s.in_channels = p->in.c / p->groups;
    s.depth = p->kernel_h * p->kernel_w * s.in_channels;
    s.row = ek_ceil_div(s.depth, CHUNK) * CHUNK;
    const int64_t windows = (int64_t)p->out.n * p->out.h * p->out.w;
    s.rows = ek_min(ek_max(PANEL_BYTES / s.row / BLOCK * BLOCK, BLOCK), PANEL_ROWS);
    s.rows = windows < s.rows ? (int32_t)windows : s.rows;
    s.tile_bytes = (ptrdiff_t)ek_ceil_div(s.depth, TILE_K) * TILE_K * TILE_N;
    s.source = conv_source_of(p, s.in_channels);
    if (s.source == FROM_BAND || s.source == FROM_PANEL) {
        plan_band(&s, p, BAND_BYTES);
        if ((int64_t)s.band_rows * s.band_cols < BAND_WINDOWS)
            plan_band(&s, p, LARGE_BAND_BYTES);
    }
    return s;
}

static size_t panel_bytes(const conv_shape *s)
{
    return s->source == FROM_BAND ? 0 : (size_t)s->rows * (size_t)s->row;
}

/* Panel and band, with what the last run spills. */
static size_t panel_scratch(const conv_shape *s)
{
    return panel_bytes(s) + (size_t)s->band_bytes + CHUNK;
}

/* ---- The product ----------------------------------------------------------------------------- */

/* One group of the input and the windows that wait for their product. */
typedef struct conv_walk {
    const ek_conv_params *p;
    const conv_shape *s;
    const requant *r;
    const int8_t *end; /* of the input */
    int8_t *panel, *band;
    int32_t segments, segment; /* of each window, as conv_rows has them */
    ptrdiff_t jump;
    conv_tiles tiles; /* the group's first */
    int32_t o, o_end; /* channels of the group that are in the range */
    int32_t count, limit; /* windows that wait, and when they are multiplied */
    conv_row rows[PANEL_ROWS];
} conv_walk;

/* Copies lanes [first, end) of each row's tile to its output `o`. */
static void store_lanes(const conv_rows *rows, int8_t (*lanes)[TILE_N], int32_t first, int32_t end,
                        int32_t o)
{
    for (int32_t i = 0; i < rows->count; i++) {
        const int8_t *from = lanes[i] + first;
        int8_t *to = rows->row[i].out + o;
        int32_t left = end - first;
        for (; left >= 8; left -= 8, from += 8, to += 8)
            memcpy(to, from, 8);
        for (; left >= 2; left -= 2, from += 2, to += 2)
            memcpy(to, from, 2);
        if (left > 0)
            *to = *from;
    }
}

/* The tile at channel `n` of which only [first, end) are in the range or exist. Kept out of line,
 * as most layers have none. */
static __attribute__((noinline)) void multiply_edge(const conv_walk *walk, const conv_rows *rows,
                                                    int32_t n, int32_t first, int32_t end)
{
    int8_t lanes[PANEL_ROWS][TILE_N]; /* outputs of the tile that are not all wanted */
    conv_row to_lanes[PANEL_ROWS];
    int32_t start[TILE_N] = {0};
    float multiplier[TILE_N] = {0};
    conv_tiles tile = walk->tiles;
    conv_rows edge = *rows;
    tile.weights += n / TILE_N * tile.bytes;
    tile.count = 1;
#ifdef HALF
    if (first == n && end - n == HALF && rows->count >= BLOCK) {
        tile.start += n;
        tile.multiplier += n;
        tile.out += n;
        multiply_half(&tile, rows, walk->r);
        return;
    }
#endif
    memcpy(start + first - n, tile.start + first, (size_t)(end - first) * sizeof start[0]);
    memcpy(multiplier + first - n, tile.multiplier + first,
           (size_t)(end - first) * sizeof multiplier[0]);
    tile.start = start;
    tile.multiplier = multiplier;
    tile.out = 0;
    for (int32_t i = 0; i < rows->count; i++)
        to_lanes[i] = (conv_row){rows->row[i].x, lanes[i]};
    edge.row = to_lanes;
    multiply(&tile, &edge, walk->r);
    store_lanes(rows, lanes, first - n, end - n, walk->tiles.out + first);
}

/* At most PANEL_ROWS rows with all channels of the range. */
static void multiply_rows(const conv_walk *walk, const conv_rows *rows)
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

/* Multiplies the windows that wait. */
static void finish_rows(conv_walk *walk)
{
    const conv_rows rows = {walk->rows, walk->count, walk->segments, walk->segment, walk->jump};
    if (walk->count > 0)
        multiply_rows(walk, &rows);
    walk->count = 0;
}

/* `count` windows, `step` bytes apart, that are read where they are. */
static void add_rows(conv_walk *walk, const int8_t *from, ptrdiff_t step, int8_t *out,
                     int32_t count)
{
    const ptrdiff_t out_step = walk->p->out.w_stride;
    while (count > 0) {
        if (walk->count == walk->limit)
            finish_rows(walk);
        const int32_t fit = ek_min(count, walk->limit - walk->count);
        conv_row *row = walk->rows + walk->count;
        int32_t left = fit;
        for (; left >= 4; left -= 4, row += 4) {
            row[0] = (conv_row){from, out};
            row[1] = (conv_row){from += step, out += out_step};
            row[2] = (conv_row){from += step, out += out_step};
            row[3] = (conv_row){from += step, out += out_step};
            from += step;
            out += out_step;
        }
        for (; left > 0; left--, row++, from += step, out += out_step)
            *row = (conv_row){from, out};
        walk->count += fit;
        count -= fit;
    }
}

/* The place in the panel of the next window, whose outputs go to `out`. */
static int8_t *next_row(conv_walk *walk, int8_t *out)
{
    if (walk->count >= walk->s->rows)
        finish_rows(walk);
    int8_t *to = walk->panel + (ptrdiff_t)walk->count * walk->s->row;
    walk->rows[walk->count++] = (conv_row){to, out};
    return to;
}

/* ---- The input ------------------------------------------------------------------------------- */

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

/* Appends the window whose first tap is at (h, w), wherever that is. */
static void append_window(const conv_walk *walk, int8_t *to, const int8_t *image, int32_t h,
                          int32_t w)
{
    const ek_conv_params *p = walk->p;
    const int32_t c = walk->s->in_channels;
    const ek_taps cols = ek_taps_inside(w, p->kernel_w, p->dilation_w, p->in.w);
    for (int32_t kh = 0; kh < p->kernel_h; kh++) {
        const int32_t ih = h + kh * p->dilation_h;
        const ek_taps inside = ih < 0 || ih >= p->in.h ? (ek_taps){0, 0} : cols;
        const int8_t *from =
            image + ek_image_at(&p->in, 0, ih, w + inside.first * p->dilation_w);
        to = append_value(to, inside.first * c, p->x_zero);
        for (int32_t kw = inside.first; kw < inside.end; kw++) {
            to = append(to, from, c, walk->end);
            from += (ptrdiff_t)p->dilation_w * p->in.w_stride;
        }
        to = append_value(to, (p->kernel_w - inside.end) * c, p->x_zero);
    }
}

/* Columns [w, w + cols) of an input row, whose first pixel is at `row`, with x_zero for those that
 * it does not have. */
static void copy_row(const conv_walk *walk, int8_t *to, const int8_t *row, int32_t w, int32_t cols)
{
    const ek_conv_params *p = walk->p;
    const int32_t c = walk->s->in_channels;
    const ek_taps inside = ek_taps_inside(w, cols, 1, p->in.w);
    const int32_t count = inside.end - inside.first;
    const int8_t *from = row + (ptrdiff_t)(w + inside.first) * p->in.w_stride;
    memset(to, p->x_zero, (size_t)inside.first * (size_t)c);
    to += (ptrdiff_t)inside.first * c;
    if (p->in.w_stride == c) {
        memcpy(to, from, (size_t)count * (size_t)c);
        to += (ptrdiff_t)count * c;
    } else {
        for (int32_t i = 0; i < count; i++, from += p->in.w_stride)
            to = append(to, from, c, walk->end);
    }
    memset(to, p->x_zero, (size_t)(cols - inside.end) * (size_t)c);
}

/* ---- Windows --------------------------------------------------------------------------------- */

/* `count` windows of one row, `right` bytes apart, to rows of the panel: each is `rows` runs. */
static void join_windows(int8_t *to, const int8_t *from, int32_t count, ptrdiff_t right,
                         int32_t rows, int32_t run, ptrdiff_t down, int32_t row)
{
    for (; count > 0; count--, from += right, to += row) {
        const int8_t *x = from;
        int8_t *y = to;
        for (int32_t kh = 0; kh < rows; kh++, x += down, y += run)
            for (int32_t i = 0; i < run; i += CHUNK)
                copy16(x + i, y + i);
    }
}

/* The same for runs of at most CHUNK bytes. */
static void join_short(int8_t *to, const int8_t *from, int32_t count, ptrdiff_t right,
                       int32_t rows, int32_t run, ptrdiff_t down, int32_t row)
{
    for (; count > 0; count--, from += right, to += row) {
        const int8_t *x = from;
        int8_t *y = to;
        for (int32_t kh = rows; kh > 0; kh--, x += down, y += run)
            copy16(x, y);
    }
}

/* The same for three runs of at most CHUNK bytes, as first layers have. */
static void join_three(int8_t *to, const int8_t *from, int32_t count, ptrdiff_t right, int32_t run,
                       ptrdiff_t down, int32_t row)
{
    for (const int8_t *const end = to + (ptrdiff_t)count * row; to != end; to += row) {
        copy16(from, to);
        copy16(from + down, to + run);
        copy16(from + 2 * down, to + 2 * run);
        from += right;
    }
}

/* `count` windows of one row, joined from the band. */
static void join_row(conv_walk *walk, const int8_t *from, ptrdiff_t down, int8_t *out,
                     int32_t count)
{
    const ek_conv_params *p = walk->p;
    const int32_t run = p->kernel_w * walk->s->in_channels, row = walk->s->row;
    const ptrdiff_t right = (ptrdiff_t)p->stride_w * walk->s->in_channels;
    while (count > 0) {
        if (walk->count == walk->limit)
            finish_rows(walk);
        const int32_t fit = ek_min(count, walk->limit - walk->count);
        int8_t *to = walk->panel + (ptrdiff_t)walk->count * row;
        if (run > CHUNK)
            join_windows(to, from, fit, right, p->kernel_h, run, down, row);
        else if (p->kernel_h == 3)
            join_three(to, from, fit, right, run, down, row);
        else
            join_short(to, from, fit, right, p->kernel_h, run, down, row);
        add_rows(walk, to, row, out, fit);
        from += fit * right;
        out += (ptrdiff_t)fit * p->out.w_stride;
        count -= fit;
    }
}

/* Output rows and columns of `part`, all of one image, with their input in the band. */
static void walk_band(conv_walk *walk, const int8_t *image, int8_t *y, const ek_range *part)
{
    const ek_conv_params *p = walk->p;
    const int32_t c = walk->s->in_channels;
    const int32_t h = part->row * p->stride_h - p->pad_top;
    const int32_t w = part->col * p->stride_w - p->pad_left;
    const int32_t rows = (int32_t)span(part->row_end - part->row, p->stride_h, p->kernel_h);
    const int32_t cols = (int32_t)span(part->col_end - part->col, p->stride_w, p->kernel_w);
    const ptrdiff_t down = (ptrdiff_t)cols * c;
    for (int32_t i = 0; i < rows; i++) {
        int8_t *to = walk->band + i * down;
        if (h + i >= 0 && h + i < p->in.h)
            copy_row(walk, to, image + ek_image_at(&p->in, 0, h + i, 0), w, cols);
        else
            memset(to, p->x_zero, (size_t)down);
    }
    walk->jump = down;
    const int8_t *from = walk->band;
    for (int32_t row = part->row; row < part->row_end; row++, from += p->stride_h * down) {
        int8_t *out = y + ek_image_at(&p->out, 0, row, part->col);
        if (walk->s->source == FROM_PANEL)
            join_row(walk, from, down, out, part->col_end - part->col);
        else
            add_rows(walk, from, (ptrdiff_t)p->stride_w * c, out, part->col_end - part->col);
    }
    finish_rows(walk);
}

/* Rows and columns of `part`, all of one image, band by band. */
static void walk_bands(conv_walk *walk, const int8_t *image, int8_t *y, const ek_range *part)
{
    const conv_shape *s = walk->s;
    for (int32_t row = part->row; row < part->row_end; row += s->band_rows)
        for (int32_t col = part->col; col < part->col_end; col += s->band_cols) {
            const ek_range band = {row, ek_min(row + s->band_rows, part->row_end),
                                   col, ek_min(col + s->band_cols, part->col_end), 0, 0};
            walk_band(walk, image, y, &band);
        }
}

/* How many of `count` windows, `step` bytes apart, are read inside the input: `reach` is from a
 * window's first value to the end of what is read for it. */
static int32_t windows_before_end(const int8_t *from, const int8_t *end, ptrdiff_t step,
                                  ptrdiff_t reach, int32_t count)
{
    const ptrdiff_t room = end - from - reach;
    if (room >= (count - 1) * step)
        return count;
    return room < 0 ? 0 : (int32_t)(room / step) + 1;
}

/* Windows of output row `oh` one by one, or in the input where that can be read. */
static void walk_row(conv_walk *walk, const int8_t *image, int32_t oh, int8_t *out,
                     const ek_range *range)
{
    const ek_conv_params *p = walk->p;
    const int32_t h = oh * p->stride_h - p->pad_top;
    int32_t col = range->col;
    if (walk->s->source == FROM_INPUT) {
        const ptrdiff_t step = (ptrdiff_t)p->stride_w * p->in.w_stride;
        const int8_t *from = image + ek_image_at(&p->in, 0, h, 0) + col * step;
        const int32_t whole =
            windows_before_end(from, walk->end, step, walk->s->row, range->col_end - col);
        add_rows(walk, from, step, out + (ptrdiff_t)col * p->out.w_stride, whole);
        col += whole;
    }
    for (; col < range->col_end; col++)
        append_window(walk, next_row(walk, out + (ptrdiff_t)col * p->out.w_stride), image, h,
                      col * p->stride_w - p->pad_left);
}

static void walk_group(conv_walk *walk, const int8_t *x, int8_t *y, const ek_range *range)
{
    const ek_conv_params *p = walk->p;
    for (int32_t row = range->row, next; row < range->row_end; row = next) {
        const int32_t n = row / p->out.h, oh = row % p->out.h;
        const int8_t *image = x + ek_image_at(&p->in, n, 0, 0);
        int8_t *out = y + ek_image_at(&p->out, n, 0, 0);
        ek_range part = *range;
        part.row = oh;
        part.row_end = ek_min(p->out.h, oh + range->row_end - row);
        next = row + part.row_end - oh;
        if (walk->s->source == FROM_BAND || walk->s->source == FROM_PANEL)
            walk_bands(walk, image, out, &part);
        else
            for (int32_t i = oh; i < part.row_end; i++)
                walk_row(walk, image, i, out + ek_image_at(&p->out, 0, i, 0), &part);
    }
    finish_rows(walk);
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
    walk.band = scratch + panel_bytes(s);
    walk.segments = s->source == FROM_BAND ? p->kernel_h : 1;
    walk.segment = s->depth / walk.segments;
    walk.jump = 0;
    walk.count = 0;
    walk.limit = s->source == FROM_PANEL || s->source == GATHERED ? s->rows : PANEL_ROWS;
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
