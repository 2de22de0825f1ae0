/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolution with at most sixteen values to a window, where adding up lanes, as conv2d_neon does,
 * would cost as much as the products: values and weights are widened to 16 bits, and each value is
 * multiplied with the weights of eight channels.
 */
#define TILE_N 8
#define TILE_K 1
#define DEPTH 16       /* at most */
#define MIN_WINDOWS 8  /* as many as AArch64 takes at once */

#ifdef __aarch64__
#define BLOCK 8 /* sixteen sums of four channels in 32 registers */
#else
#define BLOCK 4 /* eight in 16 */
#endif

#include "conv2d_panel.h"

/* Sums of eight channels of one row. */
typedef struct sums8 {
    int32x4_t low, high;
} sums8;

#ifdef __aarch64__
#define MULTIPLY_ADD(lane, s, x, w)                                                             \
    do {                                                                                        \
        (s).low = vmlal_laneq_s16((s).low, vget_low_s16(w), x, lane);                           \
        (s).high = vmlal_high_laneq_s16((s).high, w, x, lane);                                  \
    } while (0)
#else
#define MULTIPLY_ADD(lane, s, x, w)                                                             \
    do {                                                                                        \
        const int16x4_t x_ = (lane) < 4 ? vget_low_s16(x) : vget_high_s16(x);                   \
        (s).low = vmlal_lane_s16((s).low, vget_low_s16(w), x_, (lane) % 4);                     \
        (s).high = vmlal_lane_s16((s).high, vget_high_s16(w), x_, (lane) % 4);                  \
    } while (0)
#endif

typedef struct block_sums {
    sums8 s0, s1, s2, s3;
#if BLOCK == 8
    sums8 s4, s5, s6, s7;
#endif
} block_sums;

/* Weights are not read before here: compilers otherwise move their loads ahead until sums are
 * spilled. */
#define IN_ORDER(w) __asm__ volatile("" : "+r"(w))

/* Value `lane` (a literal) of eight in each row by the next eight weights. */
#if BLOCK == 8
#define ADD_MORE(lane)                                                                          \
    MULTIPLY_ADD(lane, s.s4, x4, v);                                                            \
    MULTIPLY_ADD(lane, s.s5, x5, v);                                                            \
    MULTIPLY_ADD(lane, s.s6, x6, v);                                                            \
    MULTIPLY_ADD(lane, s.s7, x7, v);
#else
#define ADD_MORE(lane)
#endif
#define ADD_VALUE(lane)                                                                         \
    if (count > (lane)) {                                                                       \
        IN_ORDER(w);                                                                            \
        const int16x8_t v = vmovl_s8(vld1_s8(w + (lane) * TILE_N));                             \
        MULTIPLY_ADD(lane, s.s0, x0, v);                                                        \
        MULTIPLY_ADD(lane, s.s1, x1, v);                                                        \
        MULTIPLY_ADD(lane, s.s2, x2, v);                                                        \
        MULTIPLY_ADD(lane, s.s3, x3, v);                                                        \
        ADD_MORE(lane)                                                                          \
    }

INLINE int16x8_t load8(const int8_t *x) { return vmovl_s8(vld1_s8(x)); }

/* Adds `count` values (8: a constant there), at most eight, of BLOCK rows from the k-th on. */
INLINE block_sums add_values(const int32_t count, block_sums s, const conv_row *row, int32_t k,
                             const int8_t *w)
{
    const int16x8_t x0 = load8(row[0].x + k), x1 = load8(row[1].x + k);
    const int16x8_t x2 = load8(row[2].x + k), x3 = load8(row[3].x + k);
#if BLOCK == 8
    const int16x8_t x4 = load8(row[4].x + k), x5 = load8(row[5].x + k);
    const int16x8_t x6 = load8(row[6].x + k), x7 = load8(row[7].x + k);
#endif
    w += k * TILE_N;
    ADD_VALUE(0)
    ADD_VALUE(1)
    ADD_VALUE(2)
    ADD_VALUE(3)
    ADD_VALUE(4)
    ADD_VALUE(5)
    ADD_VALUE(6)
    ADD_VALUE(7)
    return s;
}

/* Two rows. */
INLINE void store_rows(const conv_row *row, int32_t o, sums8 a, sums8 b, float32x4_t low,
                       float32x4_t high, const requant *r)
{
    const int32x4_t acc[4] = {a.low, a.high, b.low, b.high};
    const float32x4_t multipliers[4] = {low, high, low, high};
    const int8x16_t y = ek_requantize16_neon(acc, multipliers, r);
    vst1_s8(row[0].out + o, vget_low_s8(y));
    vst1_s8(row[1].out + o, vget_high_s8(y));
}

/* One tile and the first `count` rows, a multiple of BLOCK; `depth` values, of which all of the
 * first `whole` (a constant: 0, 8 or 16) are there. */
INLINE void tile_rows(const int whole, const conv_tiles *tiles, const conv_rows *rows, int32_t t,
                      int32_t count, const requant *given)
{
    const requant r = *given;
    const int8_t *w = tiles->weights + t * tiles->bytes;
    const int32_t *start = tiles->start + t * TILE_N;
    const float *m = tiles->multiplier + t * TILE_N;
    const int32_t o = tiles->out + t * TILE_N, depth = rows->segment;
    const conv_row *row = rows->row;
    for (const conv_row *end = row + count; row != end; row += BLOCK) {
        const sums8 first = {vld1q_s32(start), vld1q_s32(start + 4)};
        const float32x4_t low = vld1q_f32(m), high = vld1q_f32(m + 4);
        block_sums s = {first, first, first, first,
#if BLOCK == 8
                        first, first, first, first
#endif
        };
        if (whole >= 8)
            s = add_values(8, s, row, 0, w);
        if (whole == 16)
            s = add_values(8, s, row, 8, w);
        else if (depth > whole)
            s = add_values(depth - whole, s, row, whole, w);
        store_rows(row, o, s.s0, s.s1, low, high, &r);
        store_rows(row + 2, o, s.s2, s.s3, low, high, &r);
#if BLOCK == 8
        store_rows(row + 4, o, s.s4, s.s5, low, high, &r);
        store_rows(row + 6, o, s.s6, s.s7, low, high, &r);
#endif
    }
}

/* `function` with one `whole`, out of line. */
#define WITH_WHOLE(function, whole)                                                             \
    static __attribute__((noinline)) void function##_##whole(                                   \
        const conv_tiles *tiles, const conv_rows *rows, int32_t t, int32_t count,               \
        const requant *r)                                                                       \
    {                                                                                           \
        function(whole, tiles, rows, t, count, r);                                              \
    }
WITH_WHOLE(tile_rows, 0)
WITH_WHOLE(tile_rows, 8)
WITH_WHOLE(tile_rows, 16)

#ifdef __aarch64__

/* ---- Four rows, two tiles -------------------------------------------------------------------- */

#define PAIR_BLOCK 4

/* Sums of sixteen channels of one row. */
typedef struct sums16 {
    sums8 first, second;
} sums16;

typedef struct pair_sums {
    sums16 s0, s1, s2, s3;
} pair_sums;

/* Value `lane` (a literal) of eight in each row by the next sixteen weights. */
#define ADD_TO_PAIR(lane)                                                                       \
    if (count > (lane)) {                                                                       \
        IN_ORDER(w);                                                                            \
        const int16x8_t v0 = vld1q_s16(w + 16 * (lane)), v1 = vld1q_s16(w + 16 * (lane) + 8);   \
        MULTIPLY_ADD(lane, s.s0.first, x0, v0);                                                 \
        MULTIPLY_ADD(lane, s.s0.second, x0, v1);                                                \
        MULTIPLY_ADD(lane, s.s1.first, x1, v0);                                                 \
        MULTIPLY_ADD(lane, s.s1.second, x1, v1);                                                \
        MULTIPLY_ADD(lane, s.s2.first, x2, v0);                                                 \
        MULTIPLY_ADD(lane, s.s2.second, x2, v1);                                                \
        MULTIPLY_ADD(lane, s.s3.first, x3, v0);                                                 \
        MULTIPLY_ADD(lane, s.s3.second, x3, v1);                                                \
    }

/* Adds `count` values (8: a constant there), at most eight, of four rows from the k-th on. */
INLINE pair_sums add_to_pair(const int32_t count, pair_sums s, const conv_row *row, int32_t k,
                             const int16_t *w)
{
    const int16x8_t x0 = load8(row[0].x + k), x1 = load8(row[1].x + k);
    const int16x8_t x2 = load8(row[2].x + k), x3 = load8(row[3].x + k);
    w += k * 16;
    ADD_TO_PAIR(0)
    ADD_TO_PAIR(1)
    ADD_TO_PAIR(2)
    ADD_TO_PAIR(3)
    ADD_TO_PAIR(4)
    ADD_TO_PAIR(5)
    ADD_TO_PAIR(6)
    ADD_TO_PAIR(7)
    return s;
}

INLINE sums16 start_pair(const int32_t *start)
{
    return (sums16){{vld1q_s32(start), vld1q_s32(start + 4)},
                    {vld1q_s32(start + 8), vld1q_s32(start + 12)}};
}

INLINE void store_pair(int8_t *y, sums16 s, const float32x4_t m[4], const requant *r)
{
    const int32x4_t acc[4] = {s.first.low, s.first.high, s.second.low, s.second.high};
    vst1q_s8(y, ek_requantize16_neon(acc, m, r));
}

/* As tile_rows, for tiles t and t + 1, whose weights are widened once. */
INLINE void pair_rows(const int whole, const conv_tiles *tiles, const conv_rows *rows, int32_t t,
                      int32_t count, const requant *given)
{
    const requant r = *given;
    const int8_t *w0 = tiles->weights + t * tiles->bytes, *w1 = w0 + tiles->bytes;
    const int32_t *start = tiles->start + t * TILE_N;
    const float *m = tiles->multiplier + t * TILE_N;
    const int32_t o = tiles->out + t * TILE_N, depth = rows->segment;
    int16_t w[DEPTH * 16];
    for (int32_t k = 0; k < depth; k++) {
        vst1q_s16(w + 16 * k, load8(w0 + TILE_N * k));
        vst1q_s16(w + 16 * k + 8, load8(w1 + TILE_N * k));
    }
    const conv_row *row = rows->row;
    for (const conv_row *end = row + count; row != end; row += PAIR_BLOCK) {
        pair_sums s;
        s.s0 = start_pair(start);
        IN_ORDER(start);
        s.s1 = start_pair(start);
        IN_ORDER(start);
        s.s2 = start_pair(start);
        IN_ORDER(start);
        s.s3 = start_pair(start);
        if (whole >= 8)
            s = add_to_pair(8, s, row, 0, w);
        if (whole == 16)
            s = add_to_pair(8, s, row, 8, w);
        else if (depth > whole)
            s = add_to_pair(depth - whole, s, row, whole, w);
        IN_ORDER(m);
        const float32x4_t multipliers[4] = {vld1q_f32(m), vld1q_f32(m + 4), vld1q_f32(m + 8),
                                            vld1q_f32(m + 12)};
        store_pair(row[0].out + o, s.s0, multipliers, &r);
        store_pair(row[1].out + o, s.s1, multipliers, &r);
        store_pair(row[2].out + o, s.s2, multipliers, &r);
        store_pair(row[3].out + o, s.s3, multipliers, &r);
    }
}

WITH_WHOLE(pair_rows, 0)
WITH_WHOLE(pair_rows, 8)
WITH_WHOLE(pair_rows, 16)

/* All pairs of tiles; returns how many tiles these are. */
static int32_t multiply_pairs(const conv_tiles *tiles, const conv_rows *rows, int32_t count,
                              const requant *r)
{
    const int32_t pairs = tiles->count / 2, depth = rows->segment;
    for (int32_t t = 0; t < 2 * pairs; t += 2)
        (depth == 16 ? pair_rows_16 : depth >= 8 ? pair_rows_8 : pair_rows_0)(tiles, rows, t,
                                                                               count, r);
    return 2 * pairs;
}

#else

/* There are too few registers. */
static int32_t multiply_pairs(const conv_tiles *tiles, const conv_rows *rows, int32_t count,
                              const requant *r)
{
    (void)tiles;
    (void)rows;
    (void)count;
    (void)r;
    return 0;
}

#endif

/* ---- The kernel ------------------------------------------------------------------------------ */

/* Fewer than BLOCK rows at the end are filled up with the last one. */
static void multiply_rest(const conv_tiles *tiles, const conv_rows *rows, int32_t first,
                          const requant *r)
{
    conv_row filled[BLOCK];
    conv_rows rest = *rows;
    for (int32_t i = 0; i < BLOCK; i++)
        filled[i] = rows->row[ek_min(first + i, rows->count - 1)];
    rest.row = filled;
    rest.count = BLOCK;
    multiply(tiles, &rest, r);
}

static void multiply(const conv_tiles *tiles, const conv_rows *rows, const requant *r)
{
    const int32_t whole = rows->count / BLOCK * BLOCK, depth = rows->segment;
    int32_t t = whole > 0 ? multiply_pairs(tiles, rows, whole, r) : tiles->count;
    for (; t < tiles->count; t++)
        (depth == 16 ? tile_rows_16 : depth >= 8 ? tile_rows_8 : tile_rows_0)(tiles, rows, t,
                                                                               whole, r);
    if (whole < rows->count)
        multiply_rest(tiles, rows, whole, r);
}

/* Rows have one segment: several would be multiples of CHUNK, more than DEPTH together. */
int ek_conv2d_shallow_neon_supports(const void *params)
{
    const ek_conv_params *p = params;
    const int64_t depth = (int64_t)p->kernel_h * p->kernel_w * (p->in.c / p->groups);
    const int64_t windows = (int64_t)p->out.n * p->out.h * p->out.w;
    return conv_supports(p) && depth <= DEPTH && windows >= MIN_WINDOWS;
}

size_t ek_conv2d_shallow_neon_scratch(const void *params)
{
    const conv_shape s = conv_shape_of(params);
    return panel_scratch(&s);
}

void ek_conv2d_shallow_neon(const void *params, const void *const in[], void *out, void *scratch,
                            const ek_range *range)
{
    const ek_conv_params *p = params;
    const conv_shape s = conv_shape_of(p);
    conv_range(p, &s, in[0], out, scratch, range);
}
