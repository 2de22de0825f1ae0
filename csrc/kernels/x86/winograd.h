/* SPDX-License-Identifier: Apache-2.0
 *
 * 3x3 convolution with stride 1 by Winograd's F(4x4, 3x3) in integers, which gives exactly the sums
 * of the definition with a quarter of the products, the part that does not depend on the width of
 * vectors. With the transforms of Lavin and Gray, in which the weights' is G:
 *
 *     Y = A' [(G g G') * (B' d B)] A
 *
 * the rows of G hold fractions with denominators 4, 6, 6, 24, 24 and 1. Here they are multiplied by
 * 24, 6, 6, 24, 24 and 6, and the rows of A' by 24 over these, so that everything is an integer and
 * the result 24 * 24 times too large; two rows of G and of B' have the other sign. All 32-bit
 * arithmetic is modulo 2^32: there 9 has an inverse, and what is left is 64 times a sum of 9 * c
 * products, |sum| <= 9 * 128 * 128 * c < 2^25 for c <= PART_CHANNELS. An arithmetic shift ends it.
 * Deeper inputs are cut into parts of so many channels, whose sums are added.
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
 *     multiply_add(acc, x, w)   acc plus pairs of products
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

/* Four by four outputs. */
typedef struct out_tile {
    int32_t n, oh, ow;
} out_tile;

/* What a call needs of its parameters. */
typedef struct winograd_shape {
    int32_t c_in, groups;
    int32_t parts, part_channels; /* the last part may have less */
    int32_t tiles;                /* at a time */
    int keeps_weights;            /* of all groups and parts, for all tiles */
    ptrdiff_t w_values;           /* of one group and part */
} winograd_shape;

/* One group and part of transformed weights. */
typedef struct weights_part {
    int16_t *w;    /* [POINTS][pairs][GROUP][2] */
    int32_t *sums; /* [GROUP]: of the weights */
} weights_part;

/* Scratch. */
typedef struct winograd_room {
    int32_t *products; /* [POINTS][tiles of a block][GROUP] */
    int32_t *w_sums;   /* [groups][parts][GROUP] */
    int32_t *sums;     /* [tile][OUTPUTS][GROUP], of several parts */
    int16_t *x;        /* [block][part][POINTS][tiles of the block][channels of the part] */
    int16_t *w;        /* [groups][parts], as in weights_part */
    out_tile *tiles;   /* those at a time; last, as they would take what follows off its lines */
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
    s.part_channels = ek_ceil_div(s.c_in / STEP, s.parts) * STEP;
    s.w_values = POINTS * w_point(s.part_channels);
    s.keeps_weights = s.groups * s.parts * s.w_values * (ptrdiff_t)sizeof(int16_t) <= W_BYTES;
    const int32_t fit = X_BYTES / (POINTS * s.c_in * (int32_t)sizeof(int16_t));
    const int64_t all = tiles_of(p);
    s.tiles = s.keeps_weights ? HEIGHT : fit;
    s.tiles = s.tiles < all ? s.tiles : (int32_t)all;
    return s;
}

static size_t x_values(const winograd_shape *s)
{
    const int32_t blocks = ek_ceil_div(s->tiles, HEIGHT);
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
    return s->parts > 1 ? (size_t)s->tiles * OUTPUTS * GROUP : 0;
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
 * the sums of the weights. */
static vint transform_lanes(const int8_t *w, ptrdiff_t tap, int32_t quads, int16_t *to)
{
    const ptrdiff_t pair = GROUP * 2, point = w_point(quads * TILE_K);
    const vint ones = v_set16(1);
    vint sums = v_set(0);
    for (int32_t i = 0; i < quads; i++, w += TILE_N * TILE_K, to += 2 * pair) {
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

INLINE six load6(const int8_t *const at[6], int32_t c)
{
    return (six){{v_load16_i8(at[0] + c), v_load16_i8(at[1] + c), v_load16_i8(at[2] + c),
                  v_load16_i8(at[3] + c), v_load16_i8(at[4] + c),
                  v_load16_i8(at[5] + c)}};
}

/* Channels [first, end) of one tile: `at` are its 36 input positions, by column; the points of `to`
 * are `point` apart. */
static void transform_input(const int8_t *const at[POINTS], int32_t first, int32_t end, int16_t *to,
                            ptrdiff_t point)
{
    for (int32_t c = first; c < end; c += STEP, to += STEP) {
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

/* A block: tiles that are multiplied together. Of `tiles` all blocks have the same number, give or
 * take one. */
typedef struct tile_block {
    int32_t first, height;
    ptrdiff_t x; /* where its transformed input is */
} tile_block;

INLINE tile_block block_of(const winograd_shape *s, int32_t tiles, int32_t i)
{
    const int32_t blocks = ek_ceil_div(tiles, HEIGHT), first = i * tiles / blocks;
    return (tile_block){first, (i + 1) * tiles / blocks - first,
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
            transform_input(at, c, c + channels,
                            to + x_part(height, part, c) + (ptrdiff_t)t * channels,
                            x_point(height, channels));
        }
    }
}

/* ---- Products -------------------------------------------------------------------------------- */

/* All points of `height` (a constant) tiles by GROUP output channels. */
INLINE void multiply_points(const int height, int32_t pairs, const int16_t *w, const int16_t *x,
                            int32_t *to)
{
    const ptrdiff_t row = 2 * pairs;
    const ptrdiff_t next_x = x_point(height, 2 * pairs);
    for (int point = 0; point < POINTS; point++, x += next_x, w += LINE16, to += LINE32) {
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
        UNROLL for (int i = 0; i < height; i++, to += GROUP) {
            v_store(to, acc[i][0]);
            v_store(to + LANES, acc[i][1]);
        }
    }
}

typedef void (*multiply_fn)(int32_t pairs, const int16_t *w, const int16_t *x, int32_t *to);

/* Kept out of line: in a larger function the registers do not suffice. */
#define MULTIPLY(height)                                                                        \
    static __attribute__((noinline)) void multiply##height(int32_t pairs, const int16_t *w,     \
                                                           const int16_t *x, int32_t *to)       \
    {                                                                                           \
        multiply_points(height, pairs, w, x, to);                                               \
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

/* ---- Output ---------------------------------------------------------------------------------- */

typedef struct four {
    vint v[4];
} four;

/* The scaled A' times six values. */
INLINE four transform_back(vint m0, vint m1, vint m2, vint m3, vint m4, vint m5)
{
    const vint s12 = v_shl(v_add(m1, m2), 2), s34 = v_add(m3, m4);
    const vint d12 = v_shl(v_sub(m1, m2), 2), d34 = v_shl(v_sub(m3, m4), 1);
    return (four){{v_add(v_add(s12, s34), m0), v_add(d12, d34), v_add(s12, v_shl(s34, 2)),
                   v_add(d12, v_shl(v_add(d34, m5), 2))}};
}

/* The outputs of one group and part of the depth. */
typedef struct part_outputs {
    int32_t start[GROUP]; /* of the first part's sums: bias; of all: what makes up for X_OFFSET */
    float multiplier[GROUP];
    int first, last;        /* part */
    int32_t channel, channel_end; /* of the group, in the range */
    int32_t *sums;          /* [tile][OUTPUTS][GROUP] */
} part_outputs;

/* What of a tile is in the range. */
typedef struct tile_part {
    int32_t rows, cols;
} tile_part;

/* Four outputs of LANES channels, without what is due to earlier parts. 0x38E38E39 * 9 is 1 modulo
 * 2^32. */
INLINE four scale_back(four acc, vint start)
{
    const vint inverse = v_set(0x38E38E39);
    return (four){{v_add(v_sra(v_mul(acc.v[0], inverse), 6), start),
                   v_add(v_sra(v_mul(acc.v[1], inverse), 6), start),
                   v_add(v_sra(v_mul(acc.v[2], inverse), 6), start),
                   v_add(v_sra(v_mul(acc.v[3], inverse), 6), start)}};
}

INLINE four add_sums(four acc, const int32_t *sums)
{
    return (four){{v_add(acc.v[0], v_load(sums)), v_add(acc.v[1], v_load(sums + GROUP)),
                   v_add(acc.v[2], v_load(sums + 2 * GROUP)),
                   v_add(acc.v[3], v_load(sums + 3 * GROUP))}};
}

INLINE void store_sums(int32_t *sums, four acc)
{
    v_store(sums, acc.v[0]);
    v_store(sums + GROUP, acc.v[1]);
    v_store(sums + 2 * GROUP, acc.v[2]);
    v_store(sums + 3 * GROUP, acc.v[3]);
}

static __attribute__((noinline)) void store_some(int8_t *y, ptrdiff_t step, const int8_t *bytes,
                                                 int32_t cols, int32_t first, int32_t end)
{
    for (int32_t j = 0; j < cols; j++, y += step, bytes += LANES)
        for (int32_t c = first; c < end; c++)
            y[c] = bytes[c];
}

INLINE four finish_column(const int32_t *m, ptrdiff_t row)
{
    return transform_back(v_load(m), v_load(m + row), v_load(m + 2 * row), v_load(m + 3 * row),
                          v_load(m + 4 * row), v_load(m + 5 * row));
}

/* LANES channels of a tile, from lane `lane` of the group on; `y` is its first output, `sums` its
 * sums. */
static __attribute__((noinline)) void finish_lanes(const ek_conv_params *p, const int32_t *products,
                                                   ptrdiff_t point, const part_outputs *part,
                                                   const tile_part *tile, int32_t lane,
                                                   int32_t *sums, const requant *r, int8_t *y)
{
    const vint start = v_load(part->start + lane);
    const vfloat multiplier = v_loadf(part->multiplier + lane);
    const int32_t first = ek_max(part->channel - lane, 0);
    const int32_t end = ek_min(part->channel_end - lane, LANES);
    const ptrdiff_t row = 6 * point;
    const four c0 = finish_column(products, row), c1 = finish_column(products + point, row);
    const four c2 = finish_column(products + 2 * point, row);
    const four c3 = finish_column(products + 3 * point, row);
    const four c4 = finish_column(products + 4 * point, row);
    const four c5 = finish_column(products + 5 * point, row);
    const int whole = tile->cols == 4 && first == 0 && end == LANES;
#define FINISH_ROW(i)                                                                           \
    do {                                                                                        \
        four acc = scale_back(transform_back(c0.v[i], c1.v[i], c2.v[i], c3.v[i], c4.v[i],       \
                                             c5.v[i]), start);                                  \
        if (!part->first)                                                                       \
            acc = add_sums(acc, sums + 4 * (i) * GROUP);                                        \
        if (!part->last) {                                                                      \
            store_sums(sums + 4 * (i) * GROUP, acc);                                            \
        } else if ((i) < tile->rows) {                                                          \
            const vint bytes = v_requantize4(acc.v, multiplier, r);                             \
            if (whole) {                                                                        \
                v_store_quarters(y, p->out.w_stride, bytes);                                    \
            } else {                                                                            \
                int8_t buffer[4 * LANES];                                                       \
                v_store(buffer, bytes);                                                         \
                store_some(y, p->out.w_stride, buffer, tile->cols, first, end);                 \
            }                                                                                   \
            y += p->out.h_stride;                                                               \
        }                                                                                       \
    } while (0)
    FINISH_ROW(0);
    FINISH_ROW(1);
    FINISH_ROW(2);
    FINISH_ROW(3);
#undef FINISH_ROW
}

static void finish_block(const ek_conv_params *p, const int32_t *products, const out_tile *tiles,
                         int32_t height, int32_t o, const part_outputs *part, int32_t *sums,
                         const ek_range *range, const requant *r, int8_t *y)
{
    for (int32_t t = 0; t < height; t++, products += GROUP, sums += OUTPUTS * GROUP) {
        const out_tile *tile = &tiles[t];
        const int32_t image_end = ek_min(range->row_end - tile->n * p->out.h, p->out.h);
        const tile_part inside = {ek_min(image_end - tile->oh, 4),
                                  ek_min(range->col_end - tile->ow, 4)};
        int8_t *to = y + ek_image_at(&p->out, tile->n, tile->oh, tile->ow) + o;
        for (int32_t lane = part->channel / LANES * LANES; lane < part->channel_end; lane += LANES)
            finish_lanes(p, products + lane, product_point(height), part, &inside, lane,
                         sums + lane, r, to + lane);
    }
}

/* ---- The kernel ------------------------------------------------------------------------------ */

typedef struct winograd_call {
    const ek_conv_params *p;
    winograd_shape s;
    winograd_room room;
    const ek_range *range;
    requant r;
    int transformed; /* all weights, where they are kept */
    int32_t count;
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
    return room;
}

static size_t winograd_scratch(const ek_conv_params *p)
{
    const winograd_shape s = shape_of(p);
    const size_t values32 = product_values() + kept_weights(&s) * GROUP + sum_values(&s);
    return values32 * sizeof(int32_t) + (x_values(&s) + w_values(&s)) * sizeof(int16_t)
        + (size_t)s.tiles * sizeof(out_tile);
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

static part_outputs outputs_of(const winograd_call *k, int32_t group, int32_t part,
                               const int32_t *w_sums)
{
    const int32_t o = group * GROUP;
    part_outputs out;
    memcpy(out.multiplier, k->p->multiplier + o, sizeof out.multiplier);
    out.first = part == 0;
    out.last = part == k->s.parts - 1;
    for (int32_t i = 0; i < GROUP; i++) {
        const uint32_t start = part == 0 ? (uint32_t)k->p->start[o + i] : 0;
        out.start[i] = (int32_t)(start + (uint32_t)X_OFFSET * (uint32_t)w_sums[i]);
    }
    out.channel = ek_max(k->range->ch - o, 0);
    out.channel_end = ek_min(k->range->ch_end - o, GROUP);
    return out;
}

/* All tiles by one group and part. */
static void run_part(const winograd_call *k, int32_t group, int32_t part, int8_t *y)
{
    const winograd_shape *s = &k->s;
    const weights_part w = weights_of(k, group, part);
    const part_outputs out = outputs_of(k, group, part, w.sums);
    const int32_t c = part * s->part_channels, pairs = ek_min(s->part_channels, s->c_in - c) / 2;
    for (int32_t i = 0; i < ek_ceil_div(k->count, HEIGHT); i++) {
        const tile_block b = block_of(s, k->count, i);
        const int16_t *x = k->room.x + b.x + x_part(b.height, part, c);
        multiply_by_height[b.height - 1](pairs, w.w, x, k->room.products);
        finish_block(k->p, k->room.products, k->room.tiles + b.first, b.height, group * GROUP, &out,
                     k->room.sums + (ptrdiff_t)b.first * OUTPUTS * GROUP, k->range, &k->r, y);
    }
}

static void run_tiles(winograd_call *k, const int8_t *x, int8_t *y)
{
    const winograd_shape *s = &k->s;
    for (int32_t i = 0; i < ek_ceil_div(k->count, HEIGHT); i++) {
        const tile_block b = block_of(s, k->count, i);
        transform_block(k->p, s, x, k->room.tiles + b.first, b.height, k->room.x + b.x);
    }
    for (int32_t g = k->range->ch / GROUP; g * GROUP < k->range->ch_end; g++)
        for (int32_t part = 0; part < s->parts; part++)
            run_part(k, g, part, y);
    k->transformed = s->keeps_weights;
    k->count = 0;
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
    for (int32_t row = range->row; row < range->row_end;) {
        const int32_t n = row / p->out.h, oh = row % p->out.h;
        for (int32_t col = range->col; col < range->col_end; col += 4) {
            k.room.tiles[k.count++] = (out_tile){n, oh, col};
            if (k.count == k.s.tiles)
                run_tiles(&k, x, y);
        }
        row += ek_min(4, p->out.h - oh);
    }
    if (k.count > 0)
        run_tiles(&k, x, y);
}

/* Whether the transforms are exact and scratch suffices. */
static int winograd_fits(const ek_conv_params *p)
{
    return p->weights.tile_n == TILE_N && p->weights.tile_k == TILE_K && p->kernel_h == 3
        && p->kernel_w == 3 && p->stride_h == 1 && p->stride_w == 1 && p->dilation_h == 1
        && p->dilation_w == 1 && p->groups == 1 && p->in.c % STEP == 0
        && p->in.c <= MAX_CHANNELS && p->out.c % GROUP == 0;
}

/* Of winograd_pays: cycles of Zen 4 with AVX-512, rounded up. */
#define OUTPUT_COST 400
#define INPUT_COST 264
#define WEIGHTS_COST 150

/* Whether it takes less time than the set's conv2d by a tenth or more. All is counted in pairs of
 * products by LANES channels, one multiply_add: those of a position in conv2d are DIRECT_TAPS / 2
 * for each channel, and the transforms of so many points take as long as was measured. */
static int winograd_pays(const ek_conv_params *p)
{
    const winograd_shape s = shape_of(p);
    const int64_t c = p->in.c, o = p->out.c, tiles = tiles_of(p);
    const int64_t positions = (int64_t)p->out.n * p->out.h * p->out.w;
    const int64_t passes = s.keeps_weights ? 1 : (tiles - 1) / s.tiles + 1;
    const int64_t of_tile = POINTS * c * o + OUTPUT_COST * s.parts * o + INPUT_COST * c;
    const int64_t cost = tiles * of_tile + WEIGHTS_COST * passes * c * o;
    return 11 * cost < 5 * DIRECT_TAPS * positions * c * o;
}

int VECTOR_NAME_WITH(ek_winograd, supports)(const void *params)
{
    return winograd_fits(params) && winograd_pays(params);
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
