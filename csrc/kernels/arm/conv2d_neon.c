/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolution and dense layers as a matrix product of bytes without a dot product instruction:
 * sixteen products of one row and one channel are added in pairs in 16 bits, and these pairwise to
 * four 32-bit sums, three instructions in all. Two products fit 16 bits unless both weights are
 * -128 (see ek_weights); there each half is added on its own.
 */
#define TILE_N 4
#define TILE_K 16

#ifdef __aarch64__
#define BLOCK 4 /* sixteen sums of four lanes in 32 registers */
#else
#define BLOCK 2 /* eight in 16 */
#endif

#include "conv2d_panel.h"

/* Sums of four channels: each vector's lanes are to be added. */
typedef struct quad {
    int32x4_t a, b, c, d;
} quad;

/* Sixteen weights of each of four channels. */
typedef struct weights4 {
    int8x16_t a, b, c, d;
} weights4;

#ifdef __aarch64__

INLINE weights4 load_weights(const int8_t *w)
{
    const int8x16x4_t v = vld1q_s8_x4(w);
    return (weights4){v.val[0], v.val[1], v.val[2], v.val[3]};
}

INLINE int32x4_t join(quad s)
{
    return vpaddq_s32(vpaddq_s32(s.a, s.b), vpaddq_s32(s.c, s.d));
}

#else

INLINE weights4 load_weights(const int8_t *w)
{
    return (weights4){vld1q_s8(w), vld1q_s8(w + 16), vld1q_s8(w + 32), vld1q_s8(w + 48)};
}

INLINE int32x2_t halves(int32x4_t v) { return vadd_s32(vget_low_s32(v), vget_high_s32(v)); }

INLINE int32x4_t join(quad s)
{
    return vcombine_s32(vpadd_s32(halves(s.a), halves(s.b)), vpadd_s32(halves(s.c), halves(s.d)));
}

#endif

/* acc + x * w, all sixteen; `first` and `pairs` are constants. */
INLINE int32x4_t add16(const int first, const int pairs, int32x4_t acc, int8x16_t x, int8x16_t w)
{
    int16x8_t t = mull_low(x, w);
    if (pairs)
        t = mlal_high(t, x, w);
    acc = first ? vpaddlq_s16(t) : vpadalq_s16(acc, t);
    return pairs ? acc : vpadalq_s16(acc, mull_high(x, w));
}

/* The sums are complete before the next row is used: compilers otherwise move all products of a
 * step ahead of all sums, run out of registers and spill the sums. */
#define IN_ORDER_ROW(x) __asm__ volatile("" : "+w"(x))
#define IN_ORDER_SUMS(s) __asm__ volatile("" : : "w"((s).a), "w"((s).b), "w"((s).c), "w"((s).d))

INLINE quad add64(const int first, const int pairs, quad s, int8x16_t x, weights4 w)
{
    s.a = add16(first, pairs, s.a, x, w.a);
    s.b = add16(first, pairs, s.b, x, w.b);
    s.c = add16(first, pairs, s.c, x, w.c);
    s.d = add16(first, pairs, s.d, x, w.d);
    IN_ORDER_SUMS(s);
    return s;
}

INLINE void store4(int8_t *y, uint32_t bytes) { memcpy(y, &bytes, 4); }

/* ---- BLOCK rows, four channels --------------------------------------------------------------- */

typedef struct block_sums {
    quad row[BLOCK];
} block_sums;

/* The sums of one row are complete before the next one is loaded. */
INLINE void add_row(const int first, const int pairs, quad *s, const int8_t *x, weights4 w)
{
    int8x16_t v = vld1q_s8(x);
    IN_ORDER_ROW(v);
    *s = add64(first, pairs, *s, v, w);
}

/* One step of TILE_K values. */
INLINE void step_rows(const int first, const int pairs, block_sums *s, const int8_t *x[BLOCK],
                      const int8_t **weights)
{
    const weights4 w = load_weights(*weights);
    *weights += TILE_N * TILE_K;
    add_row(first, pairs, &s->row[0], x[0], w);
    x[0] += TILE_K;
    add_row(first, pairs, &s->row[1], x[1], w);
    x[1] += TILE_K;
#if BLOCK == 4
    add_row(first, pairs, &s->row[2], x[2], w);
    x[2] += TILE_K;
    add_row(first, pairs, &s->row[3], x[3], w);
    x[3] += TILE_K;
#endif
}

INLINE void store_rows(const block_sums *s, int32x4_t start, float32x4_t m, const conv_row *row,
                       int32_t o, const requant *r)
{
#if BLOCK == 4
    const int32x4_t acc[4] = {
        vaddq_s32(start, join(s->row[0])), vaddq_s32(start, join(s->row[1])),
        vaddq_s32(start, join(s->row[2])), vaddq_s32(start, join(s->row[3]))};
    const float32x4_t multipliers[4] = {m, m, m, m};
    const uint32x4_t y = vreinterpretq_u32_s8(ek_requantize16_neon(acc, multipliers, r));
    store4(row[0].out + o, vgetq_lane_u32(y, 0));
    store4(row[1].out + o, vgetq_lane_u32(y, 1));
    store4(row[2].out + o, vgetq_lane_u32(y, 2));
    store4(row[3].out + o, vgetq_lane_u32(y, 3));
#else
    const int8x8_t lanes = ek_requantize8_neon(vaddq_s32(start, join(s->row[0])),
                                               vaddq_s32(start, join(s->row[1])), m, m, r);
    const uint32x2_t y = vreinterpret_u32_s8(lanes);
    store4(row[0].out + o, vget_lane_u32(y, 0));
    store4(row[1].out + o, vget_lane_u32(y, 1));
#endif
}

/* One tile and the first `count` rows, a multiple of BLOCK. */
INLINE void tile_rows(const int pairs, const conv_tiles *tiles, const conv_rows *rows, int32_t t,
                      int32_t count, const requant *r)
{
    const int32x4_t start = vld1q_s32(tiles->start + t * TILE_N);
    const float32x4_t m = vld1q_f32(tiles->multiplier + t * TILE_N);
    const int32_t steps = ek_ceil_div(rows->segment, TILE_K);
    const int32_t o = tiles->out + t * TILE_N;
    const requant clamp = *r;
    const ptrdiff_t back = rows->jump - (ptrdiff_t)steps * TILE_K;
    const int8_t *const weights = tiles->weights + t * tiles->bytes;
    const int32_t segments = rows->segments;
    const conv_row *row = rows->row;
    for (const conv_row *end = row + count; row != end; row += BLOCK) {
        const int8_t *w = weights;
        const int8_t *x[BLOCK] = {
            row[0].x,
            row[1].x,
#if BLOCK == 4
            row[2].x,
            row[3].x,
#endif
        };
        block_sums s;
        step_rows(1, pairs, &s, x, &w);
        int32_t left = steps - 1;
        for (int32_t more = segments - 1;; more--) {
            for (; left > 0; left--)
                step_rows(0, pairs, &s, x, &w);
            if (more == 0)
                break;
            x[0] += back;
            x[1] += back;
#if BLOCK == 4
            x[2] += back;
            x[3] += back;
#endif
            left = steps;
        }
        store_rows(&s, start, m, row, o, &clamp);
    }
}

#ifdef __aarch64__

/* ---- Two rows, eight channels ---------------------------------------------------------------- */

#define PAIR_BLOCK 2

/* Sums of two rows and two tiles: as many as BLOCK rows and one, with fewer and longer stores. */
typedef struct pair_sums {
    quad a0, a1, b0, b1;
} pair_sums;

/* What is read through the pointer is not read before here. */
#define IN_ORDER(pointer) __asm__ volatile("" : "+r"(pointer))

/* One step of TILE_K values. */
INLINE void step_pair(const int first, const int pairs, pair_sums *s, const int8_t *x[PAIR_BLOCK],
                      const int8_t *weights[2])
{
    const weights4 w0 = load_weights(weights[0]);
    weights[0] += TILE_N * TILE_K;
    int8x16_t v0 = vld1q_s8(x[0]), v1 = vld1q_s8(x[1]);
    x[0] += TILE_K;
    x[1] += TILE_K;
    IN_ORDER_ROW(v0);
    s->a0 = add64(first, pairs, s->a0, v0, w0);
    IN_ORDER_ROW(v1);
    s->b0 = add64(first, pairs, s->b0, v1, w0);
    IN_ORDER(weights[1]);
    const weights4 w1 = load_weights(weights[1]);
    weights[1] += TILE_N * TILE_K;
    s->a1 = add64(first, pairs, s->a1, v0, w1);
    s->b1 = add64(first, pairs, s->b1, v1, w1);
}

INLINE void store_pair(const pair_sums *s, const int32_t *start, const float *m,
                       const conv_row *row, int32_t o, const requant *r)
{
    const int32x4_t start0 = vld1q_s32(start), start1 = vld1q_s32(start + 4);
    const float32x4_t m0 = vld1q_f32(m), m1 = vld1q_f32(m + 4);
    const int32x4_t acc[4] = {vaddq_s32(start0, join(s->a0)), vaddq_s32(start1, join(s->a1)),
                              vaddq_s32(start0, join(s->b0)), vaddq_s32(start1, join(s->b1))};
    const float32x4_t multipliers[4] = {m0, m1, m0, m1};
    const requant clamp = *r;
    const int8x16_t y = ek_requantize16_neon(acc, multipliers, &clamp);
    vst1_s8(row[0].out + o, vget_low_s8(y));
    vst1_s8(row[1].out + o, vget_high_s8(y));
}

/* Tiles t and t + 1 and the first `count` rows, a multiple of PAIR_BLOCK. */
INLINE void pair_rows(const int pairs, const conv_tiles *tiles, const conv_rows *rows, int32_t t,
                      int32_t count, const requant *r)
{
    const int32_t *start = tiles->start + t * TILE_N;
    const float *m = tiles->multiplier + t * TILE_N;
    const int32_t steps = ek_ceil_div(rows->segment, TILE_K);
    const int32_t o = tiles->out + t * TILE_N;
    const ptrdiff_t back = rows->jump - (ptrdiff_t)steps * TILE_K;
    const int8_t *const weights = tiles->weights + t * tiles->bytes;
    const ptrdiff_t bytes = tiles->bytes;
    const int32_t segments = rows->segments;
    const conv_row *row = rows->row;
    for (const conv_row *end = row + count; row != end; row += PAIR_BLOCK) {
        const int8_t *w[2] = {weights, weights + bytes};
        const int8_t *x[PAIR_BLOCK] = {row[0].x, row[1].x};
        pair_sums s;
        step_pair(1, pairs, &s, x, w);
        int32_t left = steps - 1;
        for (int32_t more = segments - 1;; more--) {
            for (; left > 0; left--)
                step_pair(0, pairs, &s, x, w);
            if (more == 0)
                break;
            x[0] += back;
            x[1] += back;
            left = steps;
        }
        IN_ORDER(start);
        IN_ORDER(m);
        IN_ORDER(r);
        store_pair(&s, start, m, row, o, r);
    }
}

#endif

/* ---- One row --------------------------------------------------------------------------------- */

INLINE quad add_tile(const int first, const int pairs, quad s, int8x16_t x, const int8_t *weights)
{
    const weights4 w = load_weights(weights);
    return add64(first, pairs, s, x, w);
}

INLINE int32x4_t row_tile(const int pairs, const conv_rows *rows, const int8_t *x,
                          const int8_t *w, const int32_t *start)
{
    quad s = {vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)};
    for (int32_t n = rows->segments; n > 0; n--, x += rows->jump)
        for (int32_t k = 0; k < rows->segment; k += TILE_K, w += TILE_N * TILE_K)
            s = add_tile(0, pairs, s, vld1q_s8(x + k), w);
    return vaddq_s32(vld1q_s32(start), join(s));
}

/* All tiles of one row, BLOCK at a time. */
INLINE void row_tiles(const int pairs, const conv_tiles *tiles, const conv_rows *rows,
                      const conv_row *row, const requant *r)
{
    const int32_t length = ek_ceil_div(rows->segment, TILE_K) * TILE_K;
    int8_t *const out = row->out + tiles->out;
    int32_t t = 0;
    for (; t + BLOCK <= tiles->count; t += BLOCK) {
        const int8_t *w0 = tiles->weights + t * tiles->bytes, *w1 = w0 + tiles->bytes;
        const int32_t *start = tiles->start + t * TILE_N;
        const float *m = tiles->multiplier + t * TILE_N;
        const int8_t *from = row->x, *end = from + length;
        int8x16_t v = vld1q_s8(from);
        quad s0 = add_tile(1, pairs, (quad){0}, v, w0);
        quad s1 = add_tile(1, pairs, (quad){0}, v, w1);
#if BLOCK == 4
        const int8_t *w2 = w1 + tiles->bytes, *w3 = w2 + tiles->bytes;
        quad s2 = add_tile(1, pairs, (quad){0}, v, w2);
        quad s3 = add_tile(1, pairs, (quad){0}, v, w3);
#endif
        from += TILE_K;
        w0 += TILE_N * TILE_K;
        w1 += TILE_N * TILE_K;
#if BLOCK == 4
        w2 += TILE_N * TILE_K;
        w3 += TILE_N * TILE_K;
#endif
        for (int32_t more = rows->segments - 1;; more--) {
            for (; from != end; from += TILE_K) {
                v = vld1q_s8(from);
                s0 = add_tile(0, pairs, s0, v, w0);
                w0 += TILE_N * TILE_K;
                s1 = add_tile(0, pairs, s1, v, w1);
                w1 += TILE_N * TILE_K;
#if BLOCK == 4
                s2 = add_tile(0, pairs, s2, v, w2);
                w2 += TILE_N * TILE_K;
                s3 = add_tile(0, pairs, s3, v, w3);
                w3 += TILE_N * TILE_K;
#endif
            }
            if (more == 0)
                break;
            end += rows->jump;
            from = end - length;
        }
#if BLOCK == 4
        const int32x4_t acc[4] = {
            vaddq_s32(vld1q_s32(start), join(s0)), vaddq_s32(vld1q_s32(start + 4), join(s1)),
            vaddq_s32(vld1q_s32(start + 8), join(s2)), vaddq_s32(vld1q_s32(start + 12), join(s3))};
        const float32x4_t multipliers[4] = {vld1q_f32(m), vld1q_f32(m + 4), vld1q_f32(m + 8),
                                            vld1q_f32(m + 12)};
        vst1q_s8(out + t * TILE_N, ek_requantize16_neon(acc, multipliers, r));
#else
        vst1_s8(out + t * TILE_N,
                ek_requantize8_neon(vaddq_s32(vld1q_s32(start), join(s0)),
                                    vaddq_s32(vld1q_s32(start + 4), join(s1)), vld1q_f32(m),
                                    vld1q_f32(m + 4), r));
#endif
    }
    for (; t < tiles->count; t++) {
        const int32x4_t acc = row_tile(pairs, rows, row->x, tiles->weights + t * tiles->bytes,
                                       tiles->start + t * TILE_N);
        const float32x4_t m = vld1q_f32(tiles->multiplier + t * TILE_N);
        store4(out + t * TILE_N,
               vget_lane_u32(vreinterpret_u32_s8(ek_requantize8_neon(acc, acc, m, m, r)), 0));
    }
}

/* ---- The kernel ------------------------------------------------------------------------------ */

/* Kept out of line: in a larger function the registers do not suffice. */
#define VARIANT(function, pairs)                                                                \
    static __attribute__((noinline)) void function##_##pairs(                                   \
        const conv_tiles *tiles, const conv_rows *rows, int32_t t, int32_t count,               \
        const requant *r)                                                                       \
    {                                                                                           \
        function(pairs, tiles, rows, t, count, r);                                              \
    }
#define ROW_VARIANT(pairs)                                                                      \
    static __attribute__((noinline)) void row_tiles_##pairs(                                    \
        const conv_tiles *tiles, const conv_rows *rows, const conv_row *row, const requant *r)  \
    {                                                                                           \
        row_tiles(pairs, tiles, rows, row, r);                                                  \
    }
VARIANT(tile_rows, 0)
VARIANT(tile_rows, 1)
ROW_VARIANT(0)
ROW_VARIANT(1)
#ifdef __aarch64__
VARIANT(pair_rows, 0)
VARIANT(pair_rows, 1)
#endif

/* The first `count` rows, a multiple of BLOCK. */
static void multiply_blocks(const conv_tiles *tiles, const conv_rows *rows, int32_t count,
                            const requant *r)
{
    int32_t t = 0;
#ifdef __aarch64__
    for (; t + 2 <= tiles->count; t += 2)
        (tiles->pairs_fit ? pair_rows_1 : pair_rows_0)(tiles, rows, t, count, r);
#endif
    for (; t < tiles->count; t++)
        (tiles->pairs_fit ? tile_rows_1 : tile_rows_0)(tiles, rows, t, count, r);
}

static void multiply(const conv_tiles *tiles, const conv_rows *rows, const requant *r)
{
    const int32_t whole = rows->count / BLOCK * BLOCK;
    if (whole > 0)
        multiply_blocks(tiles, rows, whole, r);
    for (int32_t i = whole; i < rows->count; i++)
        (tiles->pairs_fit ? row_tiles_1 : row_tiles_0)(tiles, rows, rows->row + i, r);
}

int ek_conv2d_neon_supports(const void *params)
{
    return conv_supports(params);
}

size_t ek_conv2d_neon_scratch(const void *params)
{
    const conv_shape s = conv_shape_of(params);
    return panel_scratch(&s);
}

void ek_conv2d_neon(const void *params, const void *const in[], void *out, void *scratch,
                    const ek_range *range)
{
    const ek_conv_params *p = params;
    const conv_shape s = conv_shape_of(p);
    conv_range(p, &s, in[0], out, scratch, range);
}
