/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolution and dense layers on unsigned activations, the part that does not depend on the width
 * of vectors.
 *
 * A band of the input, the rows and columns that some output rows need, is copied to scratch as
 * unsigned bytes with the padding in place. There every window is a few runs of bytes at the same
 * distances, and the windows of an output row follow each other at a constant step: nothing is
 * gathered per window, and the inner loop knows no borders. The copy costs about 1 / (kernel_w * N)
 * of the multiplication for N output channels.
 *
 * Weights come in steps of four along a run. Where runs are no multiple of four, a step would reach
 * into the next run, so the weights of a tile are shifted apart first: as a run of nine bytes and a
 * new step for the next one.
 *
 * The including file has defined the vectors of its set (vnni_*.h), TILES, ONE_TILES, WINDOWS and
 * WINDOWS_OF(tiles), which is at most WINDOWS, and defines
 *
 *     multiply_block(...)       1 to WINDOWS_OF(tiles) windows by up to TILES tiles of 16 channels
 *     multiply(&tile, ...)      the same for windows of some output rows, by multiply_rows
 *     multiply_one(&tile, ...)  up to ONE_TILES tiles for one window
 *     spread_tile(...)          the weights of a tile with runs of whole steps
 */
#include "dense.h"

#define SLACK 64 /* read behind a band: the last step of a run, and whole vectors */

/* A band is input in scratch that all weights are multiplied with before the next one. It should
 * stay in a first level cache, but hold some windows, or the weights are read too often; and leave
 * room for weights in a second level cache. */
#define BAND_BYTES 20480
#define BAND_WINDOWS 112
#define MAX_BAND_BYTES 131072
#define NEAR_BYTES 16384 /* of weights, fetched ahead of a layer's first band */

/* What a call needs of its parameters, for one group. A band is rows x columns of input pixels; of
 * a kernel of one row (column) it holds only the rows (columns) that windows start at, of one with
 * dilated rows only those that a window reads. */
typedef struct conv_shape {
    int32_t channels, in_channels; /* of a group */
    int32_t rows, cols;            /* output rows and columns of a band */
    int32_t input_step_h, input_step_w; /* in the input, between rows and columns of a band */
    int32_t stride_h, stride_w;         /* in a band, between windows */
    int32_t span_w;                     /* columns of a window */
    int32_t runs_w;                     /* runs of a window in one row: 1, or kernel_w */
    int32_t run;                        /* bytes */
    int32_t steps;                      /* of TILE_K bytes in a run */
    int spread;                         /* weights must be spread */
    int64_t band_bytes;
    ptrdiff_t tile_bytes;               /* of the weights as they come */
    ptrdiff_t spread_bytes;             /* of a tile as it is used */
} conv_shape;

/* Up to TILES (ONE_TILES) tiles of output channels. */
typedef struct conv_tile {
    const int8_t *weights;
    ptrdiff_t tile_bytes; /* from one tile's weights to the next one's */
    const int8_t *ahead;  /* the weights that are needed next */
    const int32_t *start; /* of all lanes, like `multiplier` */
    const float *multiplier;
    int32_t count;        /* tiles */
    uint64_t stored[ONE_TILES * TILE_N / 64]; /* bits of the channels in the range */
    int32_t rows, cols, steps;        /* runs, and steps of a run */
    ptrdiff_t row_step, col_step;     /* from one run's bytes to the next one's */
    ptrdiff_t x_step, out_step;       /* from one window to the next */
} conv_tile;

/* Windows of some output rows. */
typedef struct conv_windows {
    const uint8_t *x;
    int8_t *out;
    int32_t rows, cols;
    ptrdiff_t x_next, out_next; /* from one row to the next */
    const int8_t *ahead; /* what is brought near with the first step */
    ptrdiff_t pace;      /* bytes further with each step */
} conv_windows;

INLINE void multiply_block(int windows, int tiles, const conv_tile *tile, const uint8_t *x,
                           int8_t *out, const int8_t *ahead, ptrdiff_t pace, const requant *r);
static void multiply(const conv_tile *tile, const conv_windows *windows, const requant *r);
static void multiply_one(const conv_tile *tile, const uint8_t *x, int8_t *out, const requant *r);
static void spread_tile(const int8_t *from, int8_t *to, int32_t runs, int32_t run);

static int64_t band_row_bytes(const conv_shape *s, int32_t cols)
{
    return ((int64_t)(cols - 1) * s->stride_w + s->span_w) * s->in_channels;
}

static int64_t band_bytes(const conv_shape *s, int32_t kernel_h, int32_t rows, int32_t cols)
{
    return ((int64_t)(rows - 1) * s->stride_h + kernel_h) * band_row_bytes(s, cols);
}

/* Chooses the output rows and columns of a band: whole rows, or at least a few columns. */
static void choose_band(conv_shape *s, const ek_conv_params *p)
{
    const int64_t one_row = band_bytes(s, p->kernel_h, 1, p->out.w);
    if (p->out.h == 1 && one_row <= BAND_BYTES) { /* a few rows would feel divisions */
        s->rows = 1;
        s->cols = p->out.w;
        s->band_bytes = one_row;
        return;
    }
    const int32_t cols = ek_min(p->out.w, BAND_WINDOWS);
    const int64_t some = band_bytes(s, p->kernel_h, ek_ceil_div(BAND_WINDOWS, cols), cols);
    const int64_t wanted = some < BAND_BYTES ? BAND_BYTES : some;
    const int64_t limit = wanted < MAX_BAND_BYTES ? wanted : MAX_BAND_BYTES;
    const int64_t pixels = limit / ((int64_t)p->kernel_h * s->in_channels);
    s->rows = s->cols = 1;
    if (one_row > limit) {
        const int64_t fit = (pixels - s->span_w) / s->stride_w / 56 * 56;
        s->cols = fit < 56 ? 56 : (int32_t)fit;
        s->cols = ek_min(s->cols, p->out.w);
    } else {
        const int64_t rows =
            (limit / band_row_bytes(s, p->out.w) - p->kernel_h) / s->stride_h + 1;
        s->cols = p->out.w;
        if (p->kernel_h == 1 || p->dilation_h == 1)
            s->rows = rows < p->out.h ? (int32_t)rows : p->out.h;
    }
    s->band_bytes = band_bytes(s, p->kernel_h, s->rows, s->cols);
}

static conv_shape conv_shape_of(const ek_conv_params *p)
{
    conv_shape s;
    s.channels = p->out.c / p->groups;
    s.in_channels = p->in.c / p->groups;
    s.input_step_h = p->kernel_h == 1 ? p->stride_h : p->dilation_h;
    s.input_step_w = p->kernel_w == 1 ? p->stride_w : 1;
    s.stride_h = p->kernel_h == 1 ? 1 : p->stride_h;
    s.stride_w = p->kernel_w == 1 ? 1 : p->stride_w;
    s.span_w = (p->kernel_w - 1) * p->dilation_w + 1;
    s.runs_w = p->dilation_w == 1 ? 1 : p->kernel_w;
    s.run = p->kernel_w / s.runs_w * s.in_channels;
    s.steps = ek_ceil_div(s.run, TILE_K);
    s.spread = s.run % TILE_K != 0 && p->kernel_h * s.runs_w > 1;
    const int32_t depth = p->kernel_h * p->kernel_w * s.in_channels;
    s.tile_bytes = (ptrdiff_t)ek_ceil_div(depth, TILE_K) * TILE_K * TILE_N;
    s.spread_bytes = (ptrdiff_t)p->kernel_h * s.runs_w * s.steps * TILE_K * TILE_N;
    choose_band(&s, p);
    return s;
}

static size_t conv_scratch(const ek_conv_params *p)
{
    const conv_shape s = conv_shape_of(p);
    const size_t weights = s.spread ? (size_t)ONE_TILES * (size_t)s.spread_bytes : 0;
    return weights + (size_t)s.band_bytes + SLACK;
}

/* ---- The band -------------------------------------------------------------------------------- */

/* Copies columns [first, end) of an input row; those outside the input are x_zero. */
static uint8_t *copy_columns(const ek_conv_params *p, const conv_shape *s, uint8_t *to,
                             const int8_t *row, int32_t first, int32_t columns)
{
    const int32_t c = s->in_channels;
    const ek_taps inside = ek_taps_inside(first, columns, s->input_step_w, p->in.w);
    const ptrdiff_t step = (ptrdiff_t)s->input_step_w * p->in.w_stride;
    const int8_t *from = row + (ptrdiff_t)(first + inside.first * s->input_step_w) * p->in.w_stride;
    const int32_t count = inside.end - inside.first;
    fill_unsigned(to, p->x_zero, (ptrdiff_t)inside.first * c);
    to += (ptrdiff_t)inside.first * c;
    if (step == c)
        copy_unsigned(to, from, (ptrdiff_t)count * c);
    else
        for (int32_t i = 0; i < count; i++)
            copy_unsigned(to + (ptrdiff_t)i * c, from + i * step, c);
    to += (ptrdiff_t)count * c;
    fill_unsigned(to, p->x_zero, (ptrdiff_t)(columns - inside.end) * c);
    return to + (ptrdiff_t)(columns - inside.end) * c;
}

/* Copies what `rows` output rows from `oh` on and `cols` columns from `ow` on read. */
static void copy_band(const ek_conv_params *p, const conv_shape *s, uint8_t *to,
                      const int8_t *image, int32_t oh, int32_t rows, int32_t ow, int32_t cols)
{
    const int32_t columns = (cols - 1) * s->stride_w + s->span_w;
    const int32_t count = (rows - 1) * s->stride_h + p->kernel_h;
    const int32_t h = oh * p->stride_h - p->pad_top, w = ow * p->stride_w - p->pad_left;
    const int whole_rows = w == 0 && columns == p->in.w && h >= 0 && h + count <= p->in.h;
    if (whole_rows && s->input_step_w == 1 && s->input_step_h == 1
        && p->in.w_stride == s->in_channels && p->in.h_stride == columns * s->in_channels) {
        copy_unsigned(to, image + (ptrdiff_t)h * p->in.h_stride,
                      (ptrdiff_t)count * p->in.h_stride);
        return;
    }
    for (int32_t i = 0; i < count; i++) {
        const int32_t ih = h + i * s->input_step_h;
        if (ih >= 0 && ih < p->in.h) {
            to = copy_columns(p, s, to, image + (ptrdiff_t)ih * p->in.h_stride, w, columns);
        } else {
            fill_unsigned(to, p->x_zero, (ptrdiff_t)columns * s->in_channels);
            to += (ptrdiff_t)columns * s->in_channels;
        }
    }
}

/* ---- The walk over blocks -------------------------------------------------------------------- */

typedef void (*multiply_fn)(const conv_tile *tile, const conv_windows *windows, int32_t blocks,
                            const requant *r);

static int32_t steps_of(const conv_tile *tile)
{
    return tile->rows * tile->cols * tile->steps;
}

/* The first `blocks` blocks of every row; `height` and `tiles` are constants. */
INLINE void multiply_blocks(const int height, const int tiles, const conv_tile *tile,
                            const conv_windows *windows, int32_t blocks, const requant *r)
{
    const ptrdiff_t pace = windows->pace, share = pace * steps_of(tile);
    const int8_t *ahead = windows->ahead;
    for (int32_t row = 0; row < windows->rows; row++) {
        const uint8_t *x = windows->x + row * windows->x_next;
        int8_t *out = windows->out + row * windows->out_next;
        for (int32_t i = 0; i < blocks; i++) {
            multiply_block(height, tiles, tile, x, out, ahead, pace, r);
            x += height * tile->x_step;
            out += height * tile->out_step;
            ahead += share;
        }
    }
}

/* multiply<height>x<tiles>, kept out of line: in a larger function the registers do not suffice. */
#define MULTIPLY(height, tiles)                                                                  \
    static __attribute__((noinline)) void multiply##height##x##tiles(                            \
        const conv_tile *tile, const conv_windows *windows, int32_t blocks, const requant *r)    \
    {                                                                                            \
        multiply_blocks(height, tiles, tile, windows, blocks, r);                                \
    }

/* Cuts rows into blocks of equal height, give or take one. While they are multiplied, a set may
 * bring the weights near that come next, each step its share: in a network most weights are in no
 * second level cache when their turn comes, and to fetch them during one block alone would fill the
 * way to memory. */
INLINE void multiply_rows(const multiply_fn by_height[WINDOWS][TILES], const conv_tile *tile,
                          const conv_windows *windows, const requant *r)
{
    const int32_t blocks = ek_ceil_div(windows->cols, WINDOWS_OF(tile->count));
    const int32_t height = windows->cols / blocks;
    const int32_t taller = windows->cols % blocks;
    conv_windows rest = *windows;
    rest.ahead = tile->ahead;
    rest.pace =
        ek_min(TILE_N * TILE_K, ek_ceil_div(tile->count * TILE_N * TILE_K, blocks * rest.rows));
    if (taller > 0) {
        by_height[height][tile->count - 1](tile, &rest, taller, r);
        rest.x += taller * (height + 1) * tile->x_step;
        rest.out += taller * (height + 1) * tile->out_step;
        rest.ahead += rest.rows * taller * rest.pace * steps_of(tile);
    }
    by_height[height - 1][tile->count - 1](tile, &rest, blocks - taller, r);
}

/* ---- The multiplication ---------------------------------------------------------------------- */

/* One band and where its outputs go. */
typedef struct conv_band {
    const uint8_t *x;
    int8_t *spread; /* room for spread weights */
    int32_t rows, cols;
    ptrdiff_t row_bytes;
    int8_t *out; /* of its first window, channel 0 */
} conv_band;

static void multiply_tile(const ek_conv_params *p, const conv_shape *s, const conv_band *band,
                          const conv_tile *tile, int8_t *out, const requant *r)
{
    conv_windows windows = {.x = band->x,
                            .out = out,
                            .rows = band->rows,
                            .cols = band->cols,
                            .x_next = s->stride_h * band->row_bytes,
                            .out_next = p->out.h_stride};
    if (band->rows == 1 && band->cols == 1) {
        multiply_one(tile, band->x, out, r);
        return;
    }
    if (windows.x_next == band->cols * tile->x_step
        && windows.out_next == band->cols * tile->out_step) {
        windows.cols *= windows.rows;
        windows.rows = 1;
    }
    multiply(tile, &windows, r);
}

/* Room for what the lanes of some tiles start from and are multiplied by. */
typedef struct lane_room {
    int32_t start[(ONE_TILES + 1) * TILE_N];
    float multiplier[(ONE_TILES + 1) * TILE_N];
} lane_room;

/* Sets what a tile knows of its channels: `lanes` from `channel` on, of which [first, end) are
 * wanted. Those that fill up the last 16 are zero. */
INLINE void set_lanes(conv_tile *tile, lane_room *room, const ek_conv_params *p, int32_t channel,
                      int32_t lanes, int32_t first, int32_t end)
{
    tile->count = ek_ceil_div(end, TILE_N);
    for (int32_t i = 0; i < ek_ceil_div(end, 64); i++)
        tile->stored[i] = low_bits(end - i * 64) & ~low_bits(ek_max(first - i * 64, 0));
    tile->start = p->start + channel;
    tile->multiplier = p->multiplier + channel;
    if (lanes % TILE_N != 0) {
        memset(room->start + lanes, 0, TILE_N * sizeof room->start[0]);
        memset(room->multiplier + lanes, 0, TILE_N * sizeof room->multiplier[0]);
        memcpy(room->start, tile->start, (size_t)lanes * sizeof room->start[0]);
        memcpy(room->multiplier, tile->multiplier, (size_t)lanes * sizeof room->multiplier[0]);
        tile->start = room->start;
        tile->multiplier = room->multiplier;
    }
}

static const int8_t *weights_of(const ek_conv_params *p, const conv_shape *s, int32_t group)
{
    return p->weights.data + group * ek_ceil_div(s->channels, TILE_N) * s->tile_bytes;
}

/* The first weights travel while the first band is copied; `multiply_rows` sees to the others. */
static void bring_near(const int8_t *weights, ptrdiff_t bytes)
{
    for (ptrdiff_t i = 0; i < bytes && i < NEAR_BYTES; i += 64)
        __builtin_prefetch(weights + i);
}

/* Multiplies the band with output channels [o, o_end) of one group. */
static void multiply_band(const ek_conv_params *p, const conv_shape *s, const conv_band *band,
                          int32_t group, int32_t o, int32_t o_end, const requant *r)
{
    const int32_t base = group * s->channels;
    const int32_t tiles = band->rows * band->cols == 1 ? ONE_TILES : TILES;
    const int32_t runs = p->kernel_h * s->runs_w;
    const int8_t *weights = weights_of(p, s, group);
    const int32_t first = (o - base) / TILE_N * TILE_N;
    for (int32_t n = first; n < o_end - base; n += tiles * TILE_N) {
        const int32_t lanes = ek_min(s->channels - n, tiles * TILE_N);
        const int32_t next = n + tiles * TILE_N < o_end - base ? n + tiles * TILE_N : first;
        lane_room room;
        conv_tile tile = {
            .weights = weights + n / TILE_N * s->tile_bytes,
            .tile_bytes = s->tile_bytes,
            .ahead = weights + next / TILE_N * s->tile_bytes,
            .rows = p->kernel_h,
            .cols = s->runs_w,
            .steps = s->steps,
            .row_step = band->row_bytes,
            .col_step = (ptrdiff_t)p->dilation_w * s->in_channels,
            .x_step = (ptrdiff_t)s->stride_w * s->in_channels,
            .out_step = p->out.w_stride,
        };
        set_lanes(&tile, &room, p, base + n, lanes, ek_max(o - base - n, 0),
                  ek_min(o_end - base - n, lanes));
        if (s->spread) {
            for (int32_t i = 0; i < tile.count; i++)
                spread_tile(tile.weights + i * s->tile_bytes, band->spread + i * s->spread_bytes,
                            runs, s->run);
            tile.weights = band->spread;
            tile.tile_bytes = s->spread_bytes;
        }
        multiply_tile(p, s, band, &tile, band->out + base + n, r);
    }
}

/* A dense layer of one row: so little work that finding out its shape would be felt. */
static void one_row(const ek_conv_params *p, const int8_t *x, int8_t *y, uint8_t *scratch,
                    const ek_range *range, const requant *r)
{
    const int32_t steps = (p->in.c + TILE_K - 1) / TILE_K;
    const ptrdiff_t tile_bytes = (ptrdiff_t)steps * TILE_K * TILE_N;
    copy_unsigned(scratch, x, p->in.c);
    for (int32_t n = range->ch / TILE_N * TILE_N; n < range->ch_end; n += ONE_TILES * TILE_N) {
        const int32_t lanes = ek_min(p->out.c - n, ONE_TILES * TILE_N);
        lane_room room;
        conv_tile tile = {.weights = p->weights.data + n / TILE_N * tile_bytes,
                          .tile_bytes = tile_bytes, .rows = 1, .cols = 1, .steps = steps};
        set_lanes(&tile, &room, p, n, lanes, ek_max(range->ch - n, 0),
                  ek_min(range->ch_end - n, lanes));
        multiply_one(&tile, scratch, y + n, r);
    }
}

static void conv_group(const ek_conv_params *p, const conv_shape *s, const int8_t *x, int8_t *y,
                       uint8_t *scratch, const ek_range *range, int32_t group, const requant *r)
{
    const int32_t o = ek_max(range->ch, group * s->channels);
    const int32_t o_end = ek_min(range->ch_end, (group + 1) * s->channels);
    conv_band band = {.spread = (int8_t *)scratch};
    uint8_t *to = scratch + (s->spread ? ONE_TILES * s->spread_bytes : 0);
    band.x = to;
    bring_near(weights_of(p, s, group) + (o - group * s->channels) / TILE_N * s->tile_bytes,
               TILES * s->tile_bytes);
    for (int32_t row = range->row; row < range->row_end; row += band.rows) {
        const int32_t n = row / p->out.h, oh = row % p->out.h;
        const int8_t *image = x + ek_image_at(&p->in, n, 0, 0) + group * s->in_channels;
        band.rows = ek_min(s->rows, ek_min(p->out.h - oh, range->row_end - row));
        for (int32_t col = range->col; col < range->col_end; col += band.cols) {
            band.cols = ek_min(s->cols, range->col_end - col);
            band.row_bytes = (ptrdiff_t)band_row_bytes(s, band.cols);
            band.out = y + ek_image_at(&p->out, n, oh, col);
            copy_band(p, s, to, image, oh, band.rows, col, band.cols);
            multiply_band(p, s, &band, group, o, o_end, r);
        }
    }
}

static void conv_range(const ek_conv_params *p, const int8_t *x, int8_t *y, uint8_t *scratch,
                       const ek_range *range, const requant *r)
{
    if (ek_is_one_row(p)) {
        one_row(p, x, y, scratch, range, r);
        return;
    }
    const conv_shape s = conv_shape_of(p);
    for (int32_t g = range->ch / s.channels; g * s.channels < range->ch_end; g++)
        conv_group(p, &s, x, y, scratch, range, g, r);
}

static int conv_supports(const ek_conv_params *p)
{
    return p->weights.tile_n == TILE_N && p->weights.tile_k == TILE_K;
}
