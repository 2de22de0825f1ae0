/* SPDX-License-Identifier: Apache-2.0
 *
 * 3x3 convolution with stride 1 by Winograd's F(4x4, 3x3) in integers, which gives exactly the sums
 * of the definition with a quarter of the products, the part that does not depend on the width of
 * vectors. With the transforms of Lavin and Gray, in which the weights' is G:
 *
 *     Y = A' [(G g G') * (B' d B)] A
 *
 * the rows of G hold fractions with denominators 4, 6, 6, 24, 24 and 1. Here they are multiplied by
 * 24, 6, 6, 24, 24 and 6, and the columns of A' by 24 over these, so that everything is an integer
 * and the result 24 * 24 times too large; two rows of G and of B' have the other sign. All 32-bit
 * arithmetic is modulo 2^32: there 9 has an inverse, and what is left is 64 times a sum of 9 * c
 * products, |sum| <= 9 * 128 * 128 * c < 2^25 for c <= PART_CHANNELS. An arithmetic shift ends it.
 * Deeper inputs are cut into parts of so many channels, whose sums are added.
 *
 * Rows of G evaluate a polynomial at the points 0, 1, -1, 2, -2 and infinity. The last tiles of an
 * image may have fewer rows or columns, and fewer points are enough for those, of the same weights:
 *
 *     3 outputs   0, 1, -1, 2, -2 without infinity, which only the last row of A' reads
 *     2 outputs   0, 1, -1, infinity: F(2, 3) is rows 0 and 3 of A' where what belongs to 2 and -2
 *                 is zero and B' has the rows 4 (d0 - d2), 3 (d1 + d2), 3 (d2 - d1), d3 - d1
 *     1 output    0, 1, -1, the first of these
 *
 * All sums are the same multiple of the result.
 *
 * Ranges: the rows of B' have at most 10 as their sum of magnitudes, those of the scaled G at most
 * 7, so that transformed inputs lie within 100 * 128 and weights within 49 * 128: 16 bits. A pair
 * of products fits 32 bits.
 *
 * Weights are transformed in every call, for GROUP output channels and one part at a time; they
 * stay as small as they are in the file. The pairs of input channels that a 32-bit lane multiplies
 * are the halves of TILE_K.
 *
 * The including file has included vector.h for its set and defined HEIGHT (tiles that are
 * multiplied at a time), X_OFFSET and DIRECT_TAPS (see winograd_pays), and
 *
 *     v_half(w, half)           the first (0) or the last two (1) of each four bytes as int16
 *     multiply_add(acc, a, b)   acc plus pairs of products of a and b, in any order
 *     broadcast_pair(x)         two int16, in every lane
 */
#include "../kernels.h"
#include "../window.h"

#define INLINE static inline __attribute__((always_inline))

/* Loops over registers must disappear. */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

#define TILE_N 16 /* of the weights as they come */
#define TILE_K 4
#define VECTORS 2
#define GROUP (VECTORS * LANES) /* output channels at a time */
#define STEP (2 * LANES)        /* input channels that are transformed at a time */
#define POINTS 36
#define OUTPUTS 16 /* of a tile */
#define PART_CHANNELS 128
#define MAX_CHANNELS 512

/* Transformed input stays in a second level cache, beside the weights of one group and part. */
#define X_BYTES (49 * POINTS * PART_CHANNELS * 2)
#define W_BYTES (POINTS * (PART_CHANNELS * GROUP * 2 + 4 * LINE))

/* A narrow tile has at most as many columns as the last one of a row of the image, a low tile at
 * most as many rows as the last one of a column; a corner is both. */
typedef enum tile_kind {
    NARROW, /* in the order in which tiles are multiplied: those that use a point are neighbours */
    WHOLE,
    LOW,
    CORNER,
    TILE_KINDS
} tile_kind;

/* Four by four outputs, or fewer. */
typedef struct out_tile {
    int32_t n, oh, ow;
    tile_kind kind;
} out_tile;

/* What a call needs of its parameters. */
typedef struct winograd_shape {
    int32_t c_in, groups;
    int32_t parts, part_channels; /* the last part may have less */
    int32_t tiles;                /* at a time */
    int keeps_weights;            /* of all groups and parts, for all tiles */
    ptrdiff_t w_values;           /* of one group and part */
    int32_t last_h, last_w;       /* rows of a low tile, columns of a narrow one; 0: none */
} winograd_shape;

/* Points that the same kinds of tiles use. */
typedef struct point_run {
    uint8_t points;
    uint8_t low, narrow; /* whether such tiles use them */
} point_run;

/* One group and part of transformed weights. */
typedef struct weights_part {
    int16_t *w;    /* [POINTS][pairs][GROUP][2] */
    int32_t *sums; /* [GROUP]: of the weights */
} weights_part;

/* Scratch. */
typedef struct winograd_room {
    int32_t *products; /* [POINTS][tiles of a block][GROUP] */
    int32_t *w_sums;   /* [groups][parts][GROUP] */
    int32_t *sums;     /* [tile][OUTPUTS][GROUP], of several parts; of one part, one tile's */
    int16_t *x;        /* [block][part][POINTS][tiles of the block][channels of the part] */
    int16_t *w;        /* [groups][parts], as in weights_part */
    out_tile *tiles;   /* those at a time; last, as they would take what follows off its lines */
    out_tile *sorted;  /* the same by kind */
} winograd_room;

/* Between the values of two points is a line more: points that are a multiple of 4096 bytes apart
 * would share one set of a first level cache. */
#define LINE 64
#define LINE16 (LINE / (ptrdiff_t)sizeof(int16_t))
#define LINE32 (LINE / (ptrdiff_t)sizeof(int32_t))

INLINE ptrdiff_t w_point(int32_t channels) { return (ptrdiff_t)channels * GROUP + LINE16; }

INLINE ptrdiff_t x_point(int32_t height, int32_t channels)
{
    return (ptrdiff_t)height * channels + LINE16;
}

INLINE ptrdiff_t product_point(int32_t height) { return (ptrdiff_t)height * GROUP + LINE32; }

static int64_t tiles_of(const ek_conv_params *p)
{
    return (int64_t)p->out.n * ek_ceil_div(p->out.h, 4) * ek_ceil_div(p->out.w, 4);
}

static winograd_shape shape_of(const ek_conv_params *p)
{
    winograd_shape s;
    s.c_in = p->in.c;
    s.groups = p->out.c / GROUP;
    s.parts = ek_ceil_div(s.c_in, PART_CHANNELS);
    s.part_channels = ek_ceil_div(s.c_in / TILE_K, s.parts) * TILE_K;
    s.w_values = POINTS * w_point(s.part_channels);
    s.keeps_weights = s.groups * s.parts * s.w_values * (ptrdiff_t)sizeof(int16_t) <= W_BYTES;
    const int32_t fit = X_BYTES / (POINTS * s.c_in * (int32_t)sizeof(int16_t));
    const int64_t all = tiles_of(p);
    s.tiles = s.keeps_weights ? HEIGHT : fit;
    s.tiles = s.tiles < all ? s.tiles : (int32_t)all;
    s.last_h = p->out.h % 4;
    s.last_w = p->out.w % 4;
    return s;
}

/* Bits of the points of a dimension that tiles with so many outputs use, modulo 4. */
static const uint8_t points_of[4] = {0x3F, 0x07, 0x27, 0x1F};

/* Whether a tile's rows (columns) are transformed as those of F(2, 3). */
INLINE int has_few_rows(const winograd_shape *s, tile_kind kind)
{
    return kind >= LOW && s->last_h <= 2;
}

INLINE int has_few_cols(const winograd_shape *s, tile_kind kind)
{
    return (kind == NARROW || kind == CORNER) && s->last_w <= 2;
}

/* All points, cut into runs. Returns their number. */
static int32_t runs_of(const winograd_shape *s, point_run runs[POINTS])
{
    int32_t count = 0;
    for (int32_t point = 0; point < POINTS; point++) {
        const point_run run = {1, points_of[s->last_h] >> point / 6 & 1,
                               points_of[s->last_w] >> point % 6 & 1};
        if (count > 0 && runs[count - 1].low == run.low && runs[count - 1].narrow == run.narrow)
            runs[count - 1].points++;
        else
            runs[count++] = run;
    }
    return count;
}

/* Blocks of up to HEIGHT tiles; 0 <= tiles. */
INLINE int32_t blocks_of(int32_t tiles) { return (tiles + HEIGHT - 1) / HEIGHT; }

static size_t x_values(const winograd_shape *s)
{
    const int32_t blocks = blocks_of(s->tiles);
    return POINTS * ((size_t)s->tiles * (size_t)s->c_in + (size_t)(blocks * s->parts) * LINE16);
}

/* Groups and parts of weights in scratch. */
static size_t kept_weights(const winograd_shape *s)
{
    return s->keeps_weights ? (size_t)(s->groups * s->parts) : 1;
}

static size_t w_values(const winograd_shape *s)
{
    return kept_weights(s) * (size_t)s->w_values;
}

static size_t product_values(void)
{
    return POINTS * (size_t)product_point(HEIGHT);
}

static size_t sum_values(const winograd_shape *s)
{
    return (s->parts > 1 ? (size_t)s->tiles : 1) * OUTPUTS * GROUP;
}

/* ---- Weights --------------------------------------------------------------------------------- */

typedef struct six {
    vint v[6];
} six;

/* The scaled G times three values. */
INLINE six transform3(vint g0, vint g1, vint g2)
{
    const vint sum = v_add16(g0, g2), outer = v_add16(g0, v_shl16(g2, 2));
    const vint inner = v_shl16(g1, 1), scale = v_set16(6);
    return (six){{v_mul16(g0, scale), v_add16(sum, g1), v_sub16(sum, g1), v_add16(outer, inner),
                  v_sub16(outer, inner), v_mul16(g2, scale)}};
}

/* Six points of transformed values, `step` apart. */
INLINE void store6(int16_t *to, ptrdiff_t step, six v)
{
    v_store(to, v.v[0]);
    v_store(to + step, v.v[1]);
    v_store(to + 2 * step, v.v[2]);
    v_store(to + 3 * step, v.v[3]);
    v_store(to + 4 * step, v.v[4]);
    v_store(to + 5 * step, v.v[5]);
}

INLINE six weights_column(const int8_t *w, ptrdiff_t row, const int half)
{
    return transform3(v_half(w, half), v_half(w + row, half), v_half(w + 2 * row, half));
}

/* One pair of input channels, a half of TILE_K, for LANES output channels; the taps of `w` are
 * `tap` apart. Loops over arrays of vectors are written out here and below: GCC would keep the
 * arrays in memory. */
INLINE vint transform_pair(const int8_t *w, ptrdiff_t tap, const int half, int16_t *to,
                           ptrdiff_t point)
{
    const six c0 = weights_column(w, 3 * tap, half), c1 = weights_column(w + tap, 3 * tap, half);
    const six c2 = weights_column(w + 2 * tap, 3 * tap, half);
    const six row1 = transform3(c0.v[1], c1.v[1], c2.v[1]);
    store6(to, point, transform3(c0.v[0], c1.v[0], c2.v[0]));
    store6(to + 6 * point, point, row1);
    store6(to + 12 * point, point, transform3(c0.v[2], c1.v[2], c2.v[2]));
    store6(to + 18 * point, point, transform3(c0.v[3], c1.v[3], c2.v[3]));
    store6(to + 24 * point, point, transform3(c0.v[4], c1.v[4], c2.v[4]));
    store6(to + 30 * point, point, transform3(c0.v[5], c1.v[5], c2.v[5]));
    return row1.v[1]; /* (1 1 1) g (1 1 1)': the sum of the taps */
}

/* LANES output channels of `quads` times TILE_K input channels; the taps are `tap` apart. Returns
 * the sums of the weights. Those of the next TILE_N channels are fetched meanwhile: in a network
 * most weights are in no second level cache when their turn comes. */
static vint transform_lanes(const int8_t *w, ptrdiff_t tap, int32_t quads, int16_t *to)
{
    const ptrdiff_t pair = GROUP * 2, point = w_point(quads * TILE_K);
    const vint ones = v_set16(1);
    vint sums = v_set(0);
    for (int32_t i = 0; i < quads; i++, w += TILE_N * TILE_K, to += 2 * pair) {
        UNROLL for (int t = 0; t < 9; t++) __builtin_prefetch(w + (9 + t) * tap, 0, 2);
        sums = v_add(sums, v_madd(transform_pair(w, tap, 0, to, point), ones));
        sums = v_add(sums, v_madd(transform_pair(w, tap, 1, to + pair, point), ones));
    }
    return sums;
}

/* Input channels [first, first + count) of a group of output channels. */
static void transform_weights(const ek_conv_params *p, int32_t group, int32_t first, int32_t count,
                              const weights_part *to)
{
    const ptrdiff_t tap = (ptrdiff_t)p->in.c * TILE_N;
    for (int32_t lane = 0; lane < GROUP; lane += LANES) {
        const int32_t o = group * GROUP + lane;
        const int8_t *w = p->weights.data + (ptrdiff_t)(o / TILE_N) * 9 * tap
            + o % TILE_N * TILE_K + (ptrdiff_t)first * TILE_N;
        v_store(to->sums + lane, transform_lanes(w, tap, count / TILE_K, to->w + 2 * lane));
    }
}

/* ---- Input ----------------------------------------------------------------------------------- */

/* a + 4 * b */
INLINE vint add_four(vint a, vint b) { return v_add16(a, v_shl16(b, 2)); }

/* B' times six values. */
INLINE six transform6(six d)
{
    const vint d42 = v_sub16(d.v[4], d.v[2]), d31 = v_sub16(d.v[3], d.v[1]);
    const vint twice = v_shl16(d31, 1);
    const vint even = v_sub16(v_shl16(d.v[2], 2), d.v[4]);
    const vint odd = v_sub16(v_shl16(d.v[1], 2), d.v[3]);
    return (six){{add_four(d42, v_sub16(d.v[0], d.v[2])), v_add16(even, odd), v_sub16(even, odd),
                  v_add16(d42, twice), v_sub16(d42, twice),
                  v_sub16(v_sub16(d.v[5], d.v[3]), v_shl16(d31, 2))}};
}

/* The same of a tile with one or two outputs; nothing for the points 2 and -2. */
INLINE six transform_few(six d)
{
    const vint three = v_set16(3);
    const vint sum = v_mul16(v_add16(d.v[1], d.v[2]), three);
    const vint difference = v_mul16(v_sub16(d.v[2], d.v[1]), three);
    return (six){{v_shl16(v_sub16(d.v[0], d.v[2]), 2), sum, difference, sum, sum,
                  v_sub16(d.v[3], d.v[1])}};
}

INLINE six load6(const int8_t *const at[6], int32_t c)
{
    return (six){{v_load16_i8(at[0] + c), v_load16_i8(at[1] + c), v_load16_i8(at[2] + c),
                  v_load16_i8(at[3] + c), v_load16_i8(at[4] + c),
                  v_load16_i8(at[5] + c)}};
}

/* STEP channels of one tile: `at` are its 36 input positions, by column; the points of `to` are
 * `point` apart. */
INLINE void transform_whole(const int8_t *const at[POINTS], int32_t c, int16_t *to, ptrdiff_t point)
{
    const six c0 = transform6(load6(at, c)), c1 = transform6(load6(at + 6, c));
    const six c2 = transform6(load6(at + 12, c)), c3 = transform6(load6(at + 18, c));
    const six c4 = transform6(load6(at + 24, c)), c5 = transform6(load6(at + 30, c));
#define TRANSFORM_ROW(i)                                                                        \
    store6(to + 6 * (i) * point, point,                                                         \
           transform6((six){{c0.v[i], c1.v[i], c2.v[i], c3.v[i], c4.v[i], c5.v[i]}}))
    TRANSFORM_ROW(0);
    TRANSFORM_ROW(1);
    TRANSFORM_ROW(2);
    TRANSFORM_ROW(3);
    TRANSFORM_ROW(4);
    TRANSFORM_ROW(5);
#undef TRANSFORM_ROW
}

INLINE six transform_either(six d, int few) { return few ? transform_few(d) : transform6(d); }

/* The same of a tile with few rows or columns: rare, and so with intermediate values in memory. */
static void transform_few_of(const int8_t *const at[POINTS], int32_t c, int few_rows, int few_cols,
                             int16_t *to, ptrdiff_t point)
{
    int16_t cols[6][6 * STEP];
    for (int j = 0; j < 6; j++)
        store6(cols[j], STEP, transform_either(load6(at + 6 * j, c), few_rows));
    for (int i = 0; i < 6; i++, to += 6 * point) {
        const ptrdiff_t k = i * STEP;
        const six row = {{v_load16(cols[0] + k), v_load16(cols[1] + k), v_load16(cols[2] + k),
                          v_load16(cols[3] + k), v_load16(cols[4] + k), v_load16(cols[5] + k)}};
        store6(to, point, transform_either(row, few_cols));
    }
}

/* Channels [first, end) of one tile, at least STEP of them: the last step may repeat some. */
static void transform_input(const winograd_shape *s, const int8_t *const at[POINTS], int32_t first,
                            int32_t end, tile_kind kind, int16_t *to, ptrdiff_t point)
{
    const int few_rows = has_few_rows(s, kind), few_cols = has_few_cols(s, kind);
    for (int32_t c = first; c < end; c += STEP) {
        const int32_t from = ek_min(c, end - STEP);
        if (few_rows || few_cols)
            transform_few_of(at, from, few_rows, few_cols, to + from - first, point);
        else
            transform_whole(at, from, to + from - first, point);
    }
}

/* The input positions of a tile, by column; `outside` for what is. */
static void positions_of(const ek_conv_params *p, const int8_t *x, const out_tile *tile,
                         const int8_t *outside, const int8_t *at[POINTS])
{
    const int32_t ih = tile->oh - p->pad_top, iw = tile->ow - p->pad_left;
    const ptrdiff_t first = ek_image_at(&p->in, tile->n, ih, iw);
    for (int32_t j = 0; j < 6; j++) {
        const int in_width = iw + j >= 0 && iw + j < p->in.w;
        for (int32_t i = 0; i < 6; i++)
            *at++ = in_width && ih + i >= 0 && ih + i < p->in.h
                ? x + first + j * p->in.w_stride + i * p->in.h_stride
                : outside;
    }
}

/* Tiles that are multiplied with all weights, by kind: those of one end where those of the next
 * begin. */
typedef struct tile_batch {
    int32_t ends[TILE_KINDS];
    int32_t high; /* tiles in blocks ahead of those of low tiles; 0: blocks may have all kinds */
    int32_t high_blocks, blocks;
} tile_batch;

/* A block: tiles that are multiplied together. */
typedef struct tile_block {
    int32_t first, height;
    ptrdiff_t x; /* where its transformed input is */
} tile_block;

/* Many points need no low tiles. So these have blocks of their own, unless that makes more. */
static void cut_into_blocks(tile_batch *batch)
{
    const int32_t tiles = batch->ends[CORNER], high = batch->ends[WHOLE];
    batch->blocks = blocks_of(tiles);
    batch->high = blocks_of(high) + blocks_of(tiles - high) == batch->blocks ? high : 0;
    batch->high_blocks = blocks_of(batch->high);
}

/* High blocks, and the others, have as many tiles as each other, give or take one. */
INLINE tile_block block_of(const winograd_shape *s, const tile_batch *batch, int32_t i)
{
    const int is_high = i < batch->high_blocks;
    const int32_t start = is_high ? 0 : batch->high, k = is_high ? i : i - batch->high_blocks;
    const int32_t tiles = is_high ? batch->high : batch->ends[CORNER] - start;
    const int32_t blocks = is_high ? batch->high_blocks : batch->blocks - batch->high_blocks;
    const int32_t first = start + k * tiles / blocks;
    return (tile_block){first, start + (k + 1) * tiles / blocks - first,
                        POINTS * ((ptrdiff_t)first * s->c_in + i * s->parts * LINE16)};
}

/* The same of the part that has `before` channels before it, from the block's on. */
INLINE ptrdiff_t x_part(int32_t height, int32_t part, int32_t before)
{
    return POINTS * ((ptrdiff_t)height * before + part * LINE16);
}

static void transform_block(const ek_conv_params *p, const winograd_shape *s, const int8_t *x,
                            const out_tile *tiles, int32_t height, int16_t *to)
{
    int8_t outside[MAX_CHANNELS];
    const int8_t *at[POINTS];
    memset(outside, p->x_zero, (size_t)s->c_in);
    for (int32_t t = 0; t < height; t++) {
        positions_of(p, x, &tiles[t], outside, at);
        for (int32_t part = 0; part < s->parts; part++) {
            const int32_t c = part * s->part_channels;
            const int32_t channels = ek_min(s->part_channels, s->c_in - c);
            transform_input(s, at, c, c + channels, tiles[t].kind,
                            to + x_part(height, part, c) + (ptrdiff_t)t * channels,
                            x_point(height, channels));
        }
    }
}

/* ---- Products -------------------------------------------------------------------------------- */

/* Tiles of a block by some points. */
typedef struct point_tiles {
    int32_t points, pairs;
    const int16_t *w, *x;
    int32_t *to;
    ptrdiff_t x_next, to_next; /* from one point to the next one */
} point_tiles;

/* `height` (a constant) tiles by GROUP output channels. */
INLINE void multiply_points(const int height, const point_tiles *run)
{
    const int32_t pairs = run->pairs;
    const ptrdiff_t row = 2 * pairs;
    const int16_t *w = run->w, *x = run->x;
    int32_t *to = run->to;
    for (int32_t point = run->points; point > 0; point--, w += LINE16) {
        vint acc[HEIGHT][VECTORS];
        /* Every third tile has a pointer; two more are reached by an index. */
        const int16_t *third[(HEIGHT + 2) / 3];
        UNROLL for (int i = 0; i < height; i++)
            UNROLL for (int j = 0; j < VECTORS; j++)
                acc[i][j] = v_set(0);
        UNROLL for (int i = 0; i < (height + 2) / 3; i++) {
            third[i] = x + 3 * i * row;
            __asm__("" : "+r"(third[i])); /* clang would go from tile to tile with additions */
        }
        for (int32_t k = pairs; k > 0; k--) {
            const vint w0 = v_load16(w), w1 = v_load16(w + 2 * LANES);
            UNROLL for (int i = 0; i < height; i++) {
                const vint v = broadcast_pair(third[i / 3] + i % 3 * row);
                acc[i][0] = multiply_add(acc[i][0], v, w0);
                acc[i][1] = multiply_add(acc[i][1], v, w1);
            }
            UNROLL for (int i = 0; i < (height + 2) / 3; i++) third[i] += 2;
            w += 2 * GROUP;
        }
        UNROLL for (int i = 0; i < height; i++) {
            v_store(to + i * GROUP, acc[i][0]);
            v_store(to + i * GROUP + LANES, acc[i][1]);
        }
        x += run->x_next;
        to += run->to_next;
    }
}

typedef void (*multiply_fn)(const point_tiles *run);

/* Kept out of line: in a larger function the registers do not suffice. */
#define MULTIPLY(height)                                                                        \
    static __attribute__((noinline)) void multiply##height(const point_tiles *run)               \
    {                                                                                           \
        multiply_points(height, run);                                                           \
    }
MULTIPLY(1)
MULTIPLY(2)
MULTIPLY(3)
MULTIPLY(4)
MULTIPLY(5)
MULTIPLY(6)
#if HEIGHT == 7
MULTIPLY(7)
#endif
#undef MULTIPLY

static const multiply_fn multiply_by_height[HEIGHT] = {
    multiply1, multiply2, multiply3, multiply4, multiply5, multiply6,
#if HEIGHT == 7
    multiply7,
#endif
};

/* The tiles of a batch that use a point: neighbours, by the order of kinds. */
typedef struct tile_users {
    int32_t first, end;
} tile_users;

INLINE tile_users users_of(const tile_batch *batch, const point_run *run)
{
    return (tile_users){run->narrow ? 0 : batch->ends[NARROW],
                        batch->ends[run->low ? (run->narrow ? CORNER : LOW) : WHOLE]};
}

/* The points of a block with the weights `w` and the transformed inputs `x` of one part of the
 * depth. */
static void multiply_block(const tile_batch *batch, const tile_block *b, const point_run *runs,
                           int32_t count, int32_t pairs, const int16_t *w, const int16_t *x,
                           int32_t *to)
{
    const ptrdiff_t w_next = w_point(2 * pairs);
    point_tiles some = {.pairs = pairs, .x_next = x_point(b->height, 2 * pairs),
                        .to_next = product_point(b->height)};
    for (int32_t i = 0; i < count;) {
        const tile_users users = users_of(batch, &runs[i]);
        const int32_t first = ek_max(users.first - b->first, 0);
        const int32_t height = ek_min(users.end - b->first, b->height) - first;
        some.points = 0;
        for (; i < count; i++) {
            const tile_users same = users_of(batch, &runs[i]);
            if (ek_max(same.first - b->first, 0) != first
                || ek_min(same.end - b->first, b->height) != first + height)
                break;
            some.points += runs[i].points;
        }
        some.w = w;
        some.x = x + (ptrdiff_t)first * 2 * pairs;
        some.to = to + (ptrdiff_t)first * GROUP;
        if (height > 0)
            multiply_by_height[height - 1](&some);
        w += some.points * w_next;
        x += some.points * some.x_next;
        to += some.points * some.to_next;
    }
}

/* ---- Output ---------------------------------------------------------------------------------- */

typedef struct four {
    vint v[4];
} four;

/* The scaled A' times six values, without the common factors 1, 2, 4 and 4 of its rows. */
INLINE four transform_back(vint m0, vint m1, vint m2, vint m3, vint m4, vint m5)
{
    const vint s12 = v_add(m1, m2), s34 = v_add(m3, m4);
    const vint d12 = v_sub(m1, m2), d34 = v_sub(m3, m4);
    return (four){{v_add(v_add(v_shl(s12, 2), s34), m0), v_add(v_shl(d12, 1), d34),
                   v_add(s12, s34), v_add(v_add(d12, v_shl(d34, 1)), m5)}};
}

typedef struct two {
    vint v[2];
} two;

/* The first and the last of these where the points 2 and -2 give nothing. */
INLINE two transform_back_few(vint m0, vint m1, vint m2, vint m5)
{
    return (two){{v_add(v_shl(v_add(m1, m2), 2), m0), v_add(v_sub(m1, m2), m5)}};
}

/* Row or column i of A' lacks this factor. */
#define LACKING(i) ((i) == 0 ? 1u : (i) == 1 ? 2u : 4u)

/* An output of LANES channels, without what is due to earlier parts: in row i and column j of A'.
 * 0x38E38E39 * 9 is 1 modulo 2^32. */
INLINE vint scale_back(vint acc, int i, int j, vint start)
{
    const vint factor = v_set((int32_t)(0x38E38E39u * LACKING(i) * LACKING(j)));
    return v_add(v_sra(v_mul(acc, factor), 6), start);
}

INLINE four add_sums(four acc, const int32_t *sums)
{
    return (four){{v_add(acc.v[0], v_load(sums)), v_add(acc.v[1], v_load(sums + GROUP)),
                   v_add(acc.v[2], v_load(sums + 2 * GROUP)),
                   v_add(acc.v[3], v_load(sums + 3 * GROUP))}};
}

INLINE void store_vectors(int32_t *to, ptrdiff_t step, four v)
{
    v_store(to, v.v[0]);
    v_store(to + step, v.v[1]);
    v_store(to + 2 * step, v.v[2]);
    v_store(to + 3 * step, v.v[3]);
}

/* LANES channels of all tiles by one part of the depth. */
typedef struct lane_outputs {
    vint start; /* of the first part's sums: bias; of all: what makes up for X_OFFSET */
    vfloat multiplier;
    const requant *r;
    int first, last;              /* part */
    int all;                      /* lanes are in the range */
    int plain;                    /* and it is the last part, and all multipliers are below 1 */
    int32_t channel, channel_end; /* of the lanes, in the range; none, or more */
    ptrdiff_t row, col;           /* from one output to the one below and beside it */
} lane_outputs;

/* The same of a group. */
typedef struct part_outputs {
    lane_outputs lanes[VECTORS];
} part_outputs;

/* LANES channels of a tile. */
typedef struct tile_outputs {
    int32_t rows, cols; /* in the range */
    int32_t *sums;      /* [OUTPUTS][GROUP] */
    int8_t *y;
} tile_outputs;

/* Requantizes and stores what of a tile is in the range, from its sums. */
static __attribute__((noinline)) void store_tile(const lane_outputs *l, const tile_outputs *tile)
{
    for (int32_t i = 0; i < tile->rows; i++) {
        const int32_t *sums = tile->sums + 4 * i * GROUP;
        const vint acc[4] = {v_load(sums), v_load(sums + GROUP), v_load(sums + 2 * GROUP),
                             v_load(sums + 3 * GROUP)};
        int8_t bytes[4 * LANES];
        v_store(bytes, v_requantize4(acc, l->multiplier, l->r));
        for (int32_t j = 0; j < tile->cols; j++) {
            int8_t *y = tile->y + i * l->row + j * l->col;
            if (l->all)
                memcpy(y, bytes + j * LANES, LANES);
            else
                memcpy(y + l->channel, bytes + j * LANES + l->channel,
                       (size_t)(l->channel_end - l->channel));
        }
    }
}

INLINE four finish_column(const int32_t *m, ptrdiff_t row)
{
    return transform_back(v_load(m), v_load(m + row), v_load(m + 2 * row), v_load(m + 3 * row),
                          v_load(m + 4 * row), v_load(m + 5 * row));
}

INLINE four scale_row(four acc, const int i, vint start)
{
    return (four){{scale_back(acc.v[0], i, 0, start), scale_back(acc.v[1], i, 1, start),
                   scale_back(acc.v[2], i, 2, start), scale_back(acc.v[3], i, 3, start)}};
}

/* Row i of a tile whose columns are transformed. */
#define TILE_ROW(i)                                                                             \
    scale_row(transform_back(c0.v[i], c1.v[i], c2.v[i], c3.v[i], c4.v[i], c5.v[i]), i, start)

/* A whole tile in the range by the last part. */
static __attribute__((noinline)) void finish_whole(const lane_outputs *l, const int32_t *m,
                                                   ptrdiff_t point, const int32_t *sums, int8_t *y)
{
    const ptrdiff_t row = 6 * point;
    const four c0 = finish_column(m, row), c1 = finish_column(m + point, row);
    const four c2 = finish_column(m + 2 * point, row), c3 = finish_column(m + 3 * point, row);
    const four c4 = finish_column(m + 4 * point, row), c5 = finish_column(m + 5 * point, row);
    const vint start = l->start;
#define FINISH_ROW(i)                                                                           \
    do {                                                                                        \
        four acc = TILE_ROW(i);                                                                 \
        if (!l->first)                                                                          \
            acc = add_sums(acc, sums + 4 * (i) * GROUP);                                        \
        v_store_quarters(y + (i) * l->row, l->col,                                              \
                         v_requantize4_small(acc.v, l->multiplier, l->r));                      \
    } while (0)
    FINISH_ROW(0);
    FINISH_ROW(1);
    FINISH_ROW(2);
    FINISH_ROW(3);
#undef FINISH_ROW
}

/* Other tiles: adds their sums to those of earlier parts. */
static __attribute__((noinline)) void finish_sums(const lane_outputs *l, const int32_t *m,
                                                  ptrdiff_t point, int32_t *sums)
{
    const ptrdiff_t row = 6 * point;
    const four c0 = finish_column(m, row), c1 = finish_column(m + point, row);
    const four c2 = finish_column(m + 2 * point, row), c3 = finish_column(m + 3 * point, row);
    const four c4 = finish_column(m + 4 * point, row), c5 = finish_column(m + 5 * point, row);
    const vint start = l->start;
#define FINISH_ROW(i)                                                                           \
    do {                                                                                        \
        const four acc = TILE_ROW(i);                                                           \
        int32_t *to = sums + 4 * (i) * GROUP;                                                   \
        store_vectors(to, GROUP, l->first ? acc : add_sums(acc, to));                           \
    } while (0)
    FINISH_ROW(0);
    FINISH_ROW(1);
    FINISH_ROW(2);
    FINISH_ROW(3);
#undef FINISH_ROW
}
#undef TILE_ROW

/* A dimension of a tile with few outputs there, or with all: outputs, points, and of each output
 * its row of A'. */
typedef struct tile_side {
    int32_t outputs, points;
    int8_t point[6], row[4];
} tile_side;

static const tile_side sides[2] = {{4, 6, {0, 1, 2, 3, 4, 5}, {0, 1, 2, 3}},
                                   {2, 4, {0, 1, 2, 5}, {0, 3}}};

INLINE four transform_side(const int32_t *m, ptrdiff_t step, int few)
{
    if (!few)
        return finish_column(m, step);
    const two back = transform_back_few(v_load(m), v_load(m + step), v_load(m + 2 * step),
                                        v_load(m + 5 * step));
    return (four){{back.v[0], back.v[1], back.v[0], back.v[1]}};
}

/* The same of a tile with few rows or columns: rare, and so with intermediate values in memory. */
static __attribute__((noinline)) void finish_few(const lane_outputs *l, const int32_t *m,
                                                 ptrdiff_t point, int few_rows, int few_cols,
                                                 int32_t *sums)
{
    const tile_side *rows = &sides[few_rows], *cols = &sides[few_cols];
    int32_t columns[6][4 * LANES];
    for (int32_t j = 0; j < cols->points; j++)
        store_vectors(columns[cols->point[j]], LANES,
                      transform_side(m + cols->point[j] * point, 6 * point, few_rows));
    for (int32_t i = 0; i < rows->outputs; i++) {
        int32_t outputs[4 * LANES];
        store_vectors(outputs, LANES, transform_side(columns[0] + i * LANES, 4 * LANES, few_cols));
        for (int32_t j = 0; j < cols->outputs; j++) {
            int32_t *to = sums + (4 * i + j) * GROUP;
            const vint sum =
                scale_back(v_load(outputs + j * LANES), rows->row[i], cols->row[j], l->start);
            v_store(to, l->first ? sum : v_add(sum, v_load(to)));
        }
    }
}

static void finish_others(const lane_outputs *l, const int32_t *m, ptrdiff_t point, int few_rows,
                          int few_cols, const tile_outputs *tile)
{
    if (few_rows || few_cols)
        finish_few(l, m, point, few_rows, few_cols, tile->sums);
    else
        finish_sums(l, m, point, tile->sums);
    if (l->last)
        store_tile(l, tile);
}

/* A block, its output channels from `o` on. */
static void finish_block(const ek_conv_params *p, const winograd_shape *s, const int32_t *products,
                         const out_tile *tiles, int32_t height, int32_t o,
                         const part_outputs *part, int32_t *sums, const ek_range *range, int8_t *y)
{
    const ptrdiff_t point = product_point(height);
    for (int32_t i = 0; i < height; i++, products += GROUP) {
        const out_tile *tile = &tiles[i];
        const int32_t image_end = ek_min(range->row_end - tile->n * p->out.h, p->out.h);
        const int few_cols = has_few_cols(s, tile->kind);
        const int few_rows = has_few_rows(s, tile->kind);
        tile_outputs out = {.rows = ek_min(image_end - tile->oh, 4),
                            .cols = ek_min(range->col_end - tile->ow, 4)};
        const ptrdiff_t at = s->parts > 1 ? (ptrdiff_t)i * OUTPUTS * GROUP : 0;
        int8_t *to = y + ek_image_at(&p->out, tile->n, tile->oh, tile->ow) + o;
        for (int32_t v = 0; v < VECTORS; v++) {
            const lane_outputs *l = &part->lanes[v];
            out.sums = sums + at + v * LANES;
            out.y = to + v * LANES;
            if (l->channel >= l->channel_end)
                continue;
            if (!few_rows && !few_cols && out.rows == 4 && out.cols == 4 && l->plain)
                finish_whole(l, products + v * LANES, point, out.sums, out.y);
            else
                finish_others(l, products + v * LANES, point, few_rows, few_cols, &out);
        }
    }
}

/* ---- The kernel ------------------------------------------------------------------------------ */

typedef struct winograd_call {
    const ek_conv_params *p;
    winograd_shape s;
    winograd_room room;
    const ek_range *range;
    requant r;
    int transformed;  /* all weights, where they are kept */
    int32_t count;    /* tiles */
    tile_batch batch; /* the same, sorted */
    int32_t run_count;
    point_run runs[POINTS];
} winograd_call;

static winograd_room room_in(const winograd_shape *s, void *scratch)
{
    winograd_room room;
    room.products = scratch;
    room.w_sums = room.products + product_values();
    room.sums = room.w_sums + kept_weights(s) * GROUP;
    room.x = (int16_t *)(room.sums + sum_values(s));
    room.w = room.x + x_values(s);
    room.tiles = (out_tile *)(void *)(room.w + w_values(s));
    room.sorted = room.tiles + s->tiles;
    return room;
}

static size_t winograd_scratch(const ek_conv_params *p)
{
    const winograd_shape s = shape_of(p);
    const size_t values32 = product_values() + kept_weights(&s) * GROUP + sum_values(&s);
    return values32 * sizeof(int32_t) + (x_values(&s) + w_values(&s)) * sizeof(int16_t)
        + 2 * (size_t)s.tiles * sizeof(out_tile);
}

/* The weights of a group and part, transformed if they are not yet. */
static weights_part weights_of(const winograd_call *k, int32_t group, int32_t part)
{
    const winograd_shape *s = &k->s;
    const ptrdiff_t at = s->keeps_weights ? group * s->parts + part : 0;
    const weights_part w = {k->room.w + at * s->w_values, k->room.w_sums + at * GROUP};
    const int32_t first = part * s->part_channels;
    if (!k->transformed)
        transform_weights(k->p, group, first, ek_min(s->part_channels, s->c_in - first), &w);
    return w;
}

static lane_outputs lanes_of(const winograd_call *k, int32_t o, int32_t part,
                             const int32_t *w_sums)
{
    const ek_conv_params *p = k->p;
    lane_outputs l = {
        .multiplier = v_loadf(p->multiplier + o),
        .r = &k->r,
        .first = part == 0,
        .last = part == k->s.parts - 1,
        .channel = ek_max(k->range->ch - o, 0),
        .channel_end = ek_min(k->range->ch_end - o, LANES),
        .row = p->out.h_stride,
        .col = p->out.w_stride,
    };
    int32_t starts[LANES];
    int small = 1;
    for (int32_t i = 0; i < LANES; i++) {
        const uint32_t start = part == 0 ? (uint32_t)p->start[o + i] : 0;
        starts[i] = (int32_t)(start + (uint32_t)X_OFFSET * (uint32_t)w_sums[i]);
        small &= p->multiplier[o + i] < 1.0f;
    }
    l.start = v_load(starts);
    l.all = l.channel == 0 && l.channel_end == LANES;
    l.plain = l.all && l.last && small;
    return l;
}

static part_outputs outputs_of(const winograd_call *k, int32_t group, int32_t part,
                               const int32_t *w_sums)
{
    part_outputs out;
    for (int32_t v = 0; v < VECTORS; v++)
        out.lanes[v] = lanes_of(k, group * GROUP + v * LANES, part, w_sums + v * LANES);
    return out;
}

/* All tiles by one group and part. */
static void run_part(const winograd_call *k, int32_t group, int32_t part, int8_t *y)
{
    const winograd_shape *s = &k->s;
    const weights_part w = weights_of(k, group, part);
    const part_outputs out = outputs_of(k, group, part, w.sums);
    const int32_t c = part * s->part_channels, pairs = ek_min(s->part_channels, s->c_in - c) / 2;
    for (int32_t i = 0; i < k->batch.blocks; i++) {
        const tile_block b = block_of(s, &k->batch, i);
        const ptrdiff_t sums = s->parts > 1 ? (ptrdiff_t)b.first * OUTPUTS * GROUP : 0;
        multiply_block(&k->batch, &b, k->runs, k->run_count, pairs, w.w,
                       k->room.x + b.x + x_part(b.height, part, c), k->room.products);
        finish_block(k->p, s, k->room.products, k->room.sorted + b.first, b.height, group * GROUP,
                     &out, k->room.sums + sums, k->range, y);
    }
}

/* Sorts `count` tiles by kind and cuts them into blocks. */
static tile_batch sort_tiles(const out_tile *tiles, int32_t count, out_tile *sorted)
{
    tile_batch batch;
    int32_t end = 0;
    for (int kind = 0; kind < TILE_KINDS; kind++) {
        for (int32_t i = 0; i < count; i++)
            if (tiles[i].kind == (tile_kind)kind)
                sorted[end++] = tiles[i];
        batch.ends[kind] = end;
    }
    cut_into_blocks(&batch);
    return batch;
}

static void run_tiles(winograd_call *k, const int8_t *x, int8_t *y)
{
    const winograd_shape *s = &k->s;
    k->batch = sort_tiles(k->room.tiles, k->count, k->room.sorted);
    for (int32_t i = 0; i < k->batch.blocks; i++) {
        const tile_block b = block_of(s, &k->batch, i);
        transform_block(k->p, s, x, k->room.sorted + b.first, b.height, k->room.x + b.x);
    }
    for (int32_t g = k->range->ch / GROUP; g * GROUP < k->range->ch_end; g++)
        for (int32_t part = 0; part < s->parts; part++)
            run_part(k, g, part, y);
    k->transformed = s->keeps_weights;
    k->count = 0;
}

/* The kind of a tile with these rows and columns in the range. */
static tile_kind kind_of(const winograd_shape *s, int32_t rows, int32_t cols)
{
    if (rows <= s->last_h)
        return cols <= s->last_w ? CORNER : LOW;
    return cols <= s->last_w ? NARROW : WHOLE;
}

static void winograd_range(const ek_conv_params *p, const int8_t *x, int8_t *y, void *scratch,
                           const ek_range *range, const requant *r)
{
    winograd_call k;
    k.p = p;
    k.s = shape_of(p);
    k.room = room_in(&k.s, scratch);
    k.range = range;
    k.r = *r;
    k.transformed = 0;
    k.count = 0;
    k.run_count = runs_of(&k.s, k.runs);
    for (int32_t row = range->row; row < range->row_end;) {
        const int32_t n = row / p->out.h, oh = row % p->out.h;
        const int32_t rows = ek_min(p->out.h - oh, 4), inside = ek_min(range->row_end - row, rows);
        for (int32_t col = range->col; col < range->col_end; col += 4) {
            const tile_kind kind = kind_of(&k.s, inside, range->col_end - col);
            k.room.tiles[k.count++] = (out_tile){n, oh, col, kind};
            if (k.count == k.s.tiles)
                run_tiles(&k, x, y);
        }
        row += rows;
    }
    if (k.count > 0)
        run_tiles(&k, x, y);
}

/* Whether the transforms are exact and scratch suffices. */
static int winograd_fits(const ek_conv_params *p)
{
    return p->weights.tile_n == TILE_N && p->weights.tile_k == TILE_K && p->kernel_h == 3
        && p->kernel_w == 3 && p->stride_h == 1 && p->stride_w == 1 && p->dilation_h == 1
        && p->dilation_w == 1 && p->groups == 1 && p->in.c % TILE_K == 0 && p->in.c >= STEP
        && p->in.c <= MAX_CHANNELS && p->out.c % GROUP == 0;
}

/* Of winograd_pays: cycles of Zen 4 with AVX-512, rounded up. */
#define OUTPUT_COST 400
#define INPUT_COST 264
#define WEIGHTS_COST 150
#define FAR_WEIGHTS_COST 200 /* of those that are too many to be in a second level cache */

/* Of one dimension, all tiles together. */
static int64_t points_along(int32_t outputs)
{
    static const int8_t last[4] = {0, 3, 4, 5};
    return outputs / 4 * 6 + last[outputs % 4];
}

/* Whether it takes less time than the set's conv2d by a twentieth or more. All is counted in pairs
 * of products by LANES channels, one multiply_add: those of a position in conv2d are
 * DIRECT_TAPS / 2 for each channel, and the transforms take as long as was measured. */
static int winograd_pays(const ek_conv_params *p)
{
    const winograd_shape s = shape_of(p);
    const int64_t c = p->in.c, o = p->out.c, tiles = tiles_of(p);
    const int64_t positions = (int64_t)p->out.n * p->out.h * p->out.w;
    const int64_t passes = s.keeps_weights ? 1 : (tiles - 1) / s.tiles + 1;
    const int64_t points = p->out.n * points_along(p->out.h) * points_along(p->out.w);
    const int64_t transforms = tiles * (OUTPUT_COST * s.parts * o + INPUT_COST * c);
    const int64_t of_weights = (s.keeps_weights ? WEIGHTS_COST : FAR_WEIGHTS_COST) * passes;
    const int64_t cost = points * c * o + transforms + of_weights * c * o;
    return 21 * cost < 10 * DIRECT_TAPS * positions * c * o;
}

int VECTOR_NAME_WITH(ek_winograd, supports)(const void *params)
{
    return winograd_fits(params);
}

int VECTOR_NAME_WITH(ek_winograd, pays)(const void *params)
{
    return winograd_pays(params);
}

size_t VECTOR_NAME_WITH(ek_winograd, scratch)(const void *params)
{
    return winograd_scratch(params);
}

void VECTOR_NAME(ek_winograd)(const void *params, const void *const in[], void *out, void *scratch,
                              const ek_range *range)
{
    const ek_conv_params *p = params;
    const requant r = requant_init(&p->clamp);
    winograd_range(p, in[0], out, scratch, range, &r);
}
