/* SPDX-License-Identifier: Apache-2.0
 *
 * 3x3 convolution with stride 1 by Winograd's F(4x4, 3x3) in integers, which gives exactly the sums
 * of the definition with a quarter of the products. With the transforms of Lavin and Gray, in which
 * the weights' is G:
 *
 *     Y = A' [(G g G') * (B' d B)] A
 *
 * the rows of G hold fractions with denominators 4, 6, 6, 24, 24 and 1. Here they are multiplied by
 * these, and the rows of A' by 24 over these, so that everything is an integer and the result
 * 24 * 24 times too large. All 32-bit arithmetic is modulo 2^32: there 9 has an inverse, and what
 * is left is 64 times a sum of 9 * c products, |sum| <= 9 * 128 * 128 * c < 2^25 for
 * c <= MAX_CHANNELS. An arithmetic shift ends it.
 *
 * Ranges: the rows of B' have at most 10 as their sum of magnitudes, those of the scaled G at most
 * 7, so that transformed inputs lie within 100 * 128 and weights within 49 * 128: 16 bits.
 *
 * Weights are transformed in every call, for sixteen output channels at a time; they stay as small
 * as they are in the file.
 */
#include <string.h>

#include "../kernels.h"
#include "../window.h"
#include "neon.h"
#include "requant_neon.h"

#define TILE_N 16 /* output channels at a time; TILE_K is 1: [c_out/16][9 * c_in][16] */
#define POINTS 36
#define MAX_CHANNELS 128   /* input channels: scratch */
#define CHUNK_BYTES 73728  /* of transformed input */
#define CHUNK_TILES 64     /* at most */

#ifdef __aarch64__
#define BLOCK 4 /* tiles at a time: sixteen sums of four channels */
#else
#define BLOCK 2
#endif

typedef ek_requant_neon requant;

/* Four by four outputs. */
typedef struct out_tile {
    int32_t n, oh, ow;
} out_tile;

typedef struct chunk {
    out_tile tiles[CHUNK_TILES];
    int32_t count, limit; /* tiles; a multiple of BLOCK */
    int16_t *x;           /* [tiles/BLOCK][POINTS][BLOCK][c_in] */
    int16_t *w;           /* [POINTS][c_in][TILE_N] */
    int32_t *products;    /* [POINTS][BLOCK][TILE_N] */
} chunk;

static int32_t tiles_of_chunk(const ek_conv_params *p)
{
    const int32_t fit = CHUNK_BYTES / (POINTS * p->in.c * (int32_t)sizeof(int16_t));
    return ek_min(fit / BLOCK * BLOCK, CHUNK_TILES);
}

static size_t x_values(const ek_conv_params *p)
{
    return (size_t)tiles_of_chunk(p) * POINTS * (size_t)p->in.c;
}

/* ---- Weights --------------------------------------------------------------------------------- */

typedef struct six {
    int16x8_t v[6];
} six;

/* The scaled G times three values. */
INLINE six transform3(int16x8_t g0, int16x8_t g1, int16x8_t g2)
{
    const int16x8_t sum = vaddq_s16(g0, g2), outer = vaddq_s16(g0, vshlq_n_s16(g2, 2));
    const int16x8_t inner = vshlq_n_s16(g1, 1);
    return (six){{g0, vnegq_s16(vaddq_s16(sum, g1)), vsubq_s16(g1, sum), vaddq_s16(outer, inner),
                  vsubq_s16(outer, inner), g2}};
}

/* Six points of transformed values, `step` apart. */
INLINE void store6(int16_t *to, ptrdiff_t step, six v)
{
    vst1q_s16(to, v.v[0]);
    vst1q_s16(to + step, v.v[1]);
    vst1q_s16(to + 2 * step, v.v[2]);
    vst1q_s16(to + 3 * step, v.v[3]);
    vst1q_s16(to + 4 * step, v.v[4]);
    vst1q_s16(to + 5 * step, v.v[5]);
}

/* One column of weights of eight output channels, `row` apart. */
INLINE six weights_column(const int8_t *w, ptrdiff_t row)
{
    return transform3(vmovl_s8(vld1_s8(w)), vmovl_s8(vld1_s8(w + row)),
                      vmovl_s8(vld1_s8(w + 2 * row)));
}

/* Eight output channels of input channel `i`; `w` are its weights of tap 0. Loops over arrays of
 * vectors are written out here and below: GCC would keep the arrays in memory. */
INLINE void transform_weights8(const int8_t *w, int32_t c_in, int16_t *to)
{
    const ptrdiff_t tap = (ptrdiff_t)c_in * TILE_N, point = tap;
    const six c0 = weights_column(w, 3 * tap), c1 = weights_column(w + tap, 3 * tap);
    const six c2 = weights_column(w + 2 * tap, 3 * tap);
    store6(to, point, transform3(c0.v[0], c1.v[0], c2.v[0]));
    store6(to + 6 * point, point, transform3(c0.v[1], c1.v[1], c2.v[1]));
    store6(to + 12 * point, point, transform3(c0.v[2], c1.v[2], c2.v[2]));
    store6(to + 18 * point, point, transform3(c0.v[3], c1.v[3], c2.v[3]));
    store6(to + 24 * point, point, transform3(c0.v[4], c1.v[4], c2.v[4]));
    store6(to + 30 * point, point, transform3(c0.v[5], c1.v[5], c2.v[5]));
}

static void transform_weights(const ek_conv_params *p, int32_t group, int16_t *to)
{
    const int32_t c_in = p->in.c;
    const int8_t *w = p->weights.data + (ptrdiff_t)group * 9 * c_in * TILE_N;
    for (int32_t i = 0; i < c_in; i++, w += TILE_N, to += TILE_N) {
        transform_weights8(w, c_in, to);
        transform_weights8(w + 8, c_in, to + 8);
    }
}

/* ---- Input ----------------------------------------------------------------------------------- */

/* a + 4 * b */
INLINE int16x8_t add_four(int16x8_t a, int16x8_t b) { return vaddq_s16(a, vshlq_n_s16(b, 2)); }

/* B' times six values. */
INLINE six transform6(six d)
{
    const int16x8_t d42 = vsubq_s16(d.v[4], d.v[2]), d31 = vsubq_s16(d.v[3], d.v[1]);
    const int16x8_t twice = vshlq_n_s16(d31, 1);
    const int16x8_t even = vsubq_s16(d.v[4], vshlq_n_s16(d.v[2], 2));
    const int16x8_t odd = vsubq_s16(d.v[3], vshlq_n_s16(d.v[1], 2));
    return (six){{add_four(d42, vsubq_s16(d.v[0], d.v[2])), vaddq_s16(even, odd),
                  vsubq_s16(even, odd), vaddq_s16(d42, twice), vsubq_s16(d42, twice),
                  vsubq_s16(vsubq_s16(d.v[5], d.v[3]), vshlq_n_s16(d31, 2))}};
}

INLINE six load6(const int8_t *const at[6], int32_t c)
{
    return (six){{vmovl_s8(vld1_s8(at[0] + c)), vmovl_s8(vld1_s8(at[1] + c)),
                  vmovl_s8(vld1_s8(at[2] + c)), vmovl_s8(vld1_s8(at[3] + c)),
                  vmovl_s8(vld1_s8(at[4] + c)), vmovl_s8(vld1_s8(at[5] + c))}};
}

/* All channels of one tile: `at` are its 36 input positions, by column; `to` has BLOCK tiles. */
static void transform_input(const int8_t *const at[POINTS], int32_t c_in, int16_t *to)
{
    const ptrdiff_t point = (ptrdiff_t)BLOCK * c_in;
    for (int32_t c = 0; c < c_in; c += 8) {
        const six c0 = transform6(load6(at, c)), c1 = transform6(load6(at + 6, c));
        const six c2 = transform6(load6(at + 12, c)), c3 = transform6(load6(at + 18, c));
        const six c4 = transform6(load6(at + 24, c)), c5 = transform6(load6(at + 30, c));
#define TRANSFORM_ROW(i)                                                                        \
    store6(to + c + 6 * (i) * point, point,                                                     \
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
    const int8_t *first = x + ek_image_at(&p->in, tile->n, ih, iw);
    const int inside = ih >= 0 && ih + 6 <= p->in.h && iw >= 0 && iw + 6 <= p->in.w;
    for (int32_t j = 0; j < 6; j++, first += p->in.w_stride) {
        const int8_t *from = first;
        const int in_width = iw + j >= 0 && iw + j < p->in.w;
        for (int32_t i = 0; i < 6; i++, from += p->in.h_stride)
            *at++ = inside || (in_width && ih + i >= 0 && ih + i < p->in.h) ? from : outside;
    }
}

static void transform_tiles(const ek_conv_params *p, const int8_t *x, chunk *k)
{
    int8_t outside[MAX_CHANNELS];
    const int8_t *at[POINTS];
    memset(outside, p->x_zero, sizeof outside);
    for (int32_t t = 0; t < k->count; t++) {
        positions_of(p, x, &k->tiles[t], outside, at);
        transform_input(at, p->in.c,
                        k->x + (ptrdiff_t)(t / BLOCK) * POINTS * BLOCK * p->in.c
                            + (ptrdiff_t)(t % BLOCK) * p->in.c);
    }
}

/* ---- Products -------------------------------------------------------------------------------- */

/* Sums of sixteen output channels of one tile. */
typedef struct sums16 {
    int32x4_t a, b, c, d;
} sums16;

#ifdef __aarch64__
#define MULTIPLY_ADD(lane, s, x, low, high)                                                     \
    do {                                                                                        \
        (s).a = vmlal_laneq_s16((s).a, vget_low_s16(low), x, lane);                             \
        (s).b = vmlal_high_laneq_s16((s).b, low, x, lane);                                      \
        (s).c = vmlal_laneq_s16((s).c, vget_low_s16(high), x, lane);                            \
        (s).d = vmlal_high_laneq_s16((s).d, high, x, lane);                                     \
    } while (0)
#else
#define MULTIPLY_ADD(lane, s, x, low, high)                                                     \
    do {                                                                                        \
        const int16x4_t x_ = (lane) < 4 ? vget_low_s16(x) : vget_high_s16(x);                   \
        (s).a = vmlal_lane_s16((s).a, vget_low_s16(low), x_, (lane) % 4);                       \
        (s).b = vmlal_lane_s16((s).b, vget_high_s16(low), x_, (lane) % 4);                      \
        (s).c = vmlal_lane_s16((s).c, vget_low_s16(high), x_, (lane) % 4);                      \
        (s).d = vmlal_lane_s16((s).d, vget_high_s16(high), x_, (lane) % 4);                     \
    } while (0)
#endif

/* Compilers otherwise load all weights of a step ahead. */
#define IN_ORDER(w) __asm__ volatile("" : "+r"(w))

INLINE void store_sums(int32_t *to, sums16 s)
{
    vst1q_s32(to, s.a);
    vst1q_s32(to + 4, s.b);
    vst1q_s32(to + 8, s.c);
    vst1q_s32(to + 12, s.d);
}

/* One point: BLOCK tiles by sixteen output channels. */
INLINE void multiply_point(int32_t c_in, const int16_t *w, const int16_t *x, int32_t *to)
{
    const int32x4_t zero = vdupq_n_s32(0);
    const sums16 none = {zero, zero, zero, zero};
    const int16_t *end = x + c_in;
    sums16 s0 = none, s1 = none;
#if BLOCK == 4
    sums16 s2 = none, s3 = none;
#endif
    for (; x != end; x += 8) {
        const int16x8_t x0 = vld1q_s16(x), x1 = vld1q_s16(x + c_in);
#if BLOCK == 4
        const int16x8_t x2 = vld1q_s16(x + 2 * c_in), x3 = vld1q_s16(x + 3 * c_in);
#define MULTIPLY_MORE(lane)                                                                     \
    MULTIPLY_ADD(lane, s2, x2, low, high);                                                      \
    MULTIPLY_ADD(lane, s3, x3, low, high);
#else
#define MULTIPLY_MORE(lane)
#endif
#define CHANNEL(lane)                                                                           \
    do {                                                                                        \
        IN_ORDER(w);                                                                            \
        const int16x8_t low = vld1q_s16(w), high = vld1q_s16(w + 8);                            \
        w += TILE_N;                                                                            \
        MULTIPLY_ADD(lane, s0, x0, low, high);                                                  \
        MULTIPLY_ADD(lane, s1, x1, low, high);                                                  \
        MULTIPLY_MORE(lane)                                                                     \
    } while (0)
        CHANNEL(0);
        CHANNEL(1);
        CHANNEL(2);
        CHANNEL(3);
        CHANNEL(4);
        CHANNEL(5);
        CHANNEL(6);
        CHANNEL(7);
    }
    store_sums(to, s0);
    store_sums(to + TILE_N, s1);
#if BLOCK == 4
    store_sums(to + 2 * TILE_N, s2);
    store_sums(to + 3 * TILE_N, s3);
#endif
}

/* All points of BLOCK tiles. Kept out of line: in a larger function the registers do not
 * suffice. */
static __attribute__((noinline)) void multiply_points(int32_t c_in, const int16_t *w,
                                                      const int16_t *x, int32_t *to)
{
    for (int32_t i = 0; i < POINTS; i++) {
        multiply_point(c_in, w, x, to);
        w += (ptrdiff_t)c_in * TILE_N;
        x += (ptrdiff_t)c_in * BLOCK;
        to += TILE_N * BLOCK;
    }
}

/* ---- Output ---------------------------------------------------------------------------------- */

typedef struct four {
    int32x4_t v[4];
} four;

/* The scaled A' times six values. */
INLINE four transform_back(int32x4_t m0, int32x4_t m1, int32x4_t m2, int32x4_t m3, int32x4_t m4,
                           int32x4_t m5)
{
    const int32x4_t s12 = vshlq_n_s32(vaddq_s32(m1, m2), 2), s34 = vaddq_s32(m3, m4);
    const int32x4_t d12 = vshlq_n_s32(vsubq_s32(m1, m2), 2);
    const int32x4_t d34 = vshlq_n_s32(vsubq_s32(m3, m4), 1);
    return (four){{vmlaq_n_s32(vaddq_s32(s12, s34), m0, 6), vaddq_s32(d12, d34),
                   vaddq_s32(s12, vshlq_n_s32(s34, 2)),
                   vmlaq_n_s32(vaddq_s32(d12, vshlq_n_s32(d34, 2)), m5, 24)}};
}

/* Bias and multipliers of a group, filled up. */
typedef struct group_params {
    int32_t start[TILE_N];
    float multiplier[TILE_N];
} group_params;

/* Four channels of a tile, from lane `lane` of the group on: rows of bytes [column][channel]. */
typedef struct four_rows {
    int8x16_t v[4];
} four_rows;

INLINE int8x16_t finish_row(four acc, int32x4_t start, float32x4_t m, const requant *r)
{
    const float32x4_t multipliers[4] = {m, m, m, m};
    /* 0x38E38E39 * 9 is 1 modulo 2^32 */
    acc.v[0] = vsraq_n_s32(start, vmulq_n_s32(acc.v[0], 0x38E38E39), 6);
    acc.v[1] = vsraq_n_s32(start, vmulq_n_s32(acc.v[1], 0x38E38E39), 6);
    acc.v[2] = vsraq_n_s32(start, vmulq_n_s32(acc.v[2], 0x38E38E39), 6);
    acc.v[3] = vsraq_n_s32(start, vmulq_n_s32(acc.v[3], 0x38E38E39), 6);
    return ek_requantize16_neon(acc.v, multipliers, r);
}

INLINE four finish_column(const int32_t *m)
{
    const ptrdiff_t row = (ptrdiff_t)6 * BLOCK * TILE_N;
    return transform_back(vld1q_s32(m), vld1q_s32(m + row), vld1q_s32(m + 2 * row),
                          vld1q_s32(m + 3 * row), vld1q_s32(m + 4 * row), vld1q_s32(m + 5 * row));
}

#define FINISH_ROW(i)                                                                           \
    finish_row(transform_back(c0.v[i], c1.v[i], c2.v[i], c3.v[i], c4.v[i], c5.v[i]), start,     \
               scale, r)

INLINE four_rows finish_tile(const int32_t *products, const group_params *g, int32_t lane,
                             const requant *r)
{
    const int32_t *m = products + lane;
    const int32x4_t start = vld1q_s32(g->start + lane);
    const float32x4_t scale = vld1q_f32(g->multiplier + lane);
    const four c0 = finish_column(m), c1 = finish_column(m + BLOCK * TILE_N);
    const four c2 = finish_column(m + 2 * BLOCK * TILE_N);
    const four c3 = finish_column(m + 3 * BLOCK * TILE_N);
    const four c4 = finish_column(m + 4 * BLOCK * TILE_N);
    const four c5 = finish_column(m + 5 * BLOCK * TILE_N);
    return (four_rows){{FINISH_ROW(0), FINISH_ROW(1), FINISH_ROW(2), FINISH_ROW(3)}};
}

/* What of a tile is in the range. */
typedef struct part {
    int32_t rows, cols;
    int32_t lane, lane_end;
} part;

static __attribute__((noinline)) void store_part(const ek_conv_params *p, const four_rows *rows,
                                                 const part *part, int32_t lane, int8_t *y)
{
    const int32_t first = ek_max(part->lane, lane), end = ek_min(part->lane_end, lane + 4);
    for (int32_t i = 0; i < part->rows; i++, y += p->out.h_stride) {
        int8_t bytes[16], *row = y;
        vst1q_s8(bytes, rows->v[i]);
        for (int32_t j = 0; j < part->cols; j++, row += p->out.w_stride)
            for (int32_t c = first; c < end; c++)
                row[c] = bytes[4 * j + c - lane];
    }
}

INLINE void store4(int8_t *y, uint32_t bytes) { memcpy(y, &bytes, 4); }

INLINE void store_row(int8_t *y, ptrdiff_t step, int8x16_t bytes)
{
    const uint32x4_t v = vreinterpretq_u32_s8(bytes);
    store4(y, vgetq_lane_u32(v, 0));
    store4(y + step, vgetq_lane_u32(v, 1));
    store4(y + 2 * step, vgetq_lane_u32(v, 2));
    store4(y + 3 * step, vgetq_lane_u32(v, 3));
}

/* One tile: its part in the range, `y` its first output of the group. */
static __attribute__((noinline)) void finish_part(const ek_conv_params *p, const int32_t *products,
                                                  const part *part, const requant *given,
                                                  const group_params *g, int8_t *y)
{
    const requant r = *given;
    for (int32_t lane = part->lane / 4 * 4; lane < part->lane_end; lane += 4) {
        const four_rows rows = finish_tile(products, g, lane, &r);
        store_part(p, &rows, part, lane, y);
    }
}

/* One tile, all of it. */
static __attribute__((noinline)) void finish_whole(const ek_conv_params *p,
                                                   const int32_t *products, const requant *given,
                                                   const group_params *g, int8_t *y)
{
    const requant r = *given;
    const ptrdiff_t down = p->out.h_stride, right = p->out.w_stride;
    for (int32_t lane = 0; lane < TILE_N; lane += 4, y += 4) {
        const four_rows rows = finish_tile(products, g, lane, &r);
        store_row(y, right, rows.v[0]);
        store_row(y + down, right, rows.v[1]);
        store_row(y + 2 * down, right, rows.v[2]);
        store_row(y + 3 * down, right, rows.v[3]);
    }
}

static void finish_block(const ek_conv_params *p, const chunk *k, int32_t first, int32_t o,
                         const requant *r, const group_params *g, const ek_range *range, int8_t *y)
{
    for (int32_t t = 0; t < BLOCK && first + t < k->count; t++) {
        const out_tile *tile = &k->tiles[first + t];
        const int32_t *products = k->products + t * TILE_N;
        const int32_t image_end = ek_min(range->row_end - tile->n * p->out.h, p->out.h);
        const part part = {ek_min(image_end - tile->oh, 4), ek_min(range->col_end - tile->ow, 4),
                           ek_max(range->ch - o, 0), ek_min(range->ch_end - o, TILE_N)};
        int8_t *to = y + ek_image_at(&p->out, tile->n, tile->oh, tile->ow) + o;
        if (part.rows == 4 && part.cols == 4 && part.lane_end - part.lane == TILE_N)
            finish_whole(p, products, r, g, to);
        else
            finish_part(p, products, &part, r, g, to);
    }
}

/* ---- The kernel ------------------------------------------------------------------------------ */

static group_params params_of(const ek_conv_params *p, int32_t o)
{
    const size_t lanes = (size_t)ek_min(p->out.c - o, TILE_N);
    group_params g;
    memset(&g, 0, sizeof g);
    memcpy(g.start, p->start + o, lanes * sizeof g.start[0]);
    memcpy(g.multiplier, p->multiplier + o, lanes * sizeof g.multiplier[0]);
    return g;
}

/* All tiles of the chunk; `transformed` is the group whose weights stand in k->w. */
static void run_chunk(const ek_conv_params *p, const int8_t *x, int8_t *y, chunk *k,
                      const ek_range *range, const requant *r, int32_t *transformed)
{
    const ptrdiff_t block = (ptrdiff_t)POINTS * BLOCK * p->in.c;
    transform_tiles(p, x, k);
    for (int32_t o = range->ch / TILE_N * TILE_N; o < range->ch_end; o += TILE_N) {
        const group_params g = params_of(p, o);
        if (*transformed != o)
            transform_weights(p, o / TILE_N, k->w);
        *transformed = o;
        for (int32_t t = 0; t < k->count; t += BLOCK) {
            const int16_t *from = k->x + t / BLOCK * block;
            multiply_points(p->in.c, k->w, from, k->products);
            finish_block(p, k, t, o, r, &g, range, y);
        }
    }
    k->count = 0;
}

/* Whether there are enough outputs to be worth the transforms, and scratch for them. */
int ek_winograd_neon_supports(const void *params)
{
    const ek_conv_params *p = params;
    const int64_t tiles = (int64_t)p->out.n * ek_ceil_div(p->out.h, 4) * ek_ceil_div(p->out.w, 4);
    return p->weights.tile_n == TILE_N && p->weights.tile_k == 1 && p->kernel_h == 3
        && p->kernel_w == 3 && p->stride_h == 1 && p->stride_w == 1 && p->dilation_h == 1
        && p->dilation_w == 1 && p->groups == 1 && p->in.c % 8 == 0 && p->in.c <= MAX_CHANNELS
        && p->out.c % TILE_N == 0 && tiles >= 4
        && 8 * tiles <= (int64_t)p->out.n * p->out.h * p->out.w;
}

size_t ek_winograd_neon_scratch(const void *params)
{
    const ek_conv_params *p = params;
    return (x_values(p) + (size_t)POINTS * (size_t)p->in.c * TILE_N) * sizeof(int16_t)
        + (size_t)POINTS * BLOCK * TILE_N * sizeof(int32_t);
}

void ek_winograd_neon(const void *params, const void *const in[], void *out, void *scratch,
                      const ek_range *range)
{
    const ek_conv_params *p = params;
    const requant r = ek_requant_neon_init(&p->clamp);
    int32_t transformed = -1;
    chunk k;
    k.count = 0;
    k.limit = tiles_of_chunk(p);
    k.products = scratch;
    k.x = (int16_t *)(k.products + POINTS * BLOCK * TILE_N);
    k.w = k.x + x_values(p);
    for (int32_t row = range->row; row < range->row_end;) {
        const int32_t n = row / p->out.h, oh = row % p->out.h;
        for (int32_t col = range->col; col < range->col_end; col += 4) {
            k.tiles[k.count++] = (out_tile){n, oh, col};
            if (k.count == k.limit)
                run_chunk(p, in[0], out, &k, range, &r, &transformed);
        }
        row += ek_min(4, p->out.h - oh);
    }
    if (k.count > 0)
        run_chunk(p, in[0], out, &k, range, &r, &transformed);
}
