/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolution and dense layers as a matrix product of bytes with the dot product instruction: a
 * lane of weights holds four values of one channel, and is multiplied with the same four of a row.
 * Four rows of sixteen channels are sixteen vectors of sums; no lanes are left to be added.
 */
#define TILE_N 16
#define TILE_K 4
#define BLOCK 4

#include "../arm/conv2d_panel.h"

#define STEP 16 /* values of a row in a vector */

/* Sums of sixteen channels. */
typedef struct sums16 {
    int32x4_t a, b, c, d;
} sums16;

INLINE sums16 load_start(const int32_t *start)
{
    return (sums16){vld1q_s32(start), vld1q_s32(start + 4), vld1q_s32(start + 8),
                    vld1q_s32(start + 12)};
}

/* Four values of a row, lane `k` of x (a literal), by those of sixteen channels. */
#define ADD64(k, s, x, weights)                                                                 \
    do {                                                                                        \
        const int8x16x4_t w_ = (weights);                                                       \
        (s).a = vdotq_laneq_s32((s).a, w_.val[0], x, k);                                        \
        (s).b = vdotq_laneq_s32((s).b, w_.val[1], x, k);                                        \
        (s).c = vdotq_laneq_s32((s).c, w_.val[2], x, k);                                        \
        (s).d = vdotq_laneq_s32((s).d, w_.val[3], x, k);                                        \
    } while (0)

/* Multipliers of sixteen channels. */
typedef struct float16 {
    float32x4_t v[4];
} float16;

INLINE float16 load_multipliers(const float *m)
{
    return (float16){{vld1q_f32(m), vld1q_f32(m + 4), vld1q_f32(m + 8), vld1q_f32(m + 12)}};
}

INLINE void store16(int8_t *y, sums16 s, float16 m, const requant *r)
{
    const int32x4_t acc[4] = {s.a, s.b, s.c, s.d};
    vst1q_s8(y, ek_requantize16_neon(acc, m.v, r));
}

/* ---- Four rows, one tile --------------------------------------------------------------------- */

typedef struct block_sums {
    sums16 s0, s1, s2, s3;
} block_sums;

typedef struct block_rows {
    int8x16_t x0, x1, x2, x3;
} block_rows;

INLINE block_rows load_rows(const int8_t *x, ptrdiff_t stride)
{
    return (block_rows){vld1q_s8(x), vld1q_s8(x + stride), vld1q_s8(x + 2 * stride),
                        vld1q_s8(x + 3 * stride)};
}

/* What is read through the pointer is not read before here: compilers move loads of weights ahead
 * until the sums are spilled, and copy registers where a load would do. */
#define IN_ORDER(pointer) __asm__ volatile("" : "+r"(pointer))

#define ADD256(k)                                                                               \
    do {                                                                                        \
        IN_ORDER(w);                                                                            \
        const int8x16x4_t v_ = vld1q_s8_x4(w);                                                  \
        w += TILE_N * TILE_K;                                                                   \
        ADD64(k, s.s0, x.x0, v_);                                                               \
        ADD64(k, s.s1, x.x1, v_);                                                               \
        ADD64(k, s.s2, x.x2, v_);                                                               \
        ADD64(k, s.s3, x.x3, v_);                                                               \
    } while (0)

/* One tile and the first `count` rows, a multiple of BLOCK. Kept out of line: in a larger function
 * the registers do not suffice. */
static __attribute__((noinline)) void tile_rows(const conv_tiles *tiles, const conv_rows *rows,
                                                int32_t t, int32_t count, const requant *r)
{
    const requant clamp = *r;
    const int32_t steps = ek_ceil_div(rows->segment, TILE_K);
    const int32_t *start = tiles->start + t * TILE_N;
    const float *m = tiles->multiplier + t * TILE_N;
    const int32_t o = tiles->out + t * TILE_N;
    const int8_t *weights = tiles->weights + t * tiles->bytes;
    const ptrdiff_t stride = rows->stride, jump = rows->jump;
    const int32_t segments = rows->segments;
    const int8_t *row = rows->x;
    int8_t *const *out = rows->out;
    for (int8_t *const *end = out + count; out != end; out += BLOCK, row += BLOCK * stride) {
        const int8_t *w = weights, *segment = row;
        block_sums s;
        s.s0 = load_start(start);
        IN_ORDER(start);
        s.s1 = load_start(start);
        IN_ORDER(start);
        s.s2 = load_start(start);
        IN_ORDER(start);
        s.s3 = load_start(start);
        for (int32_t n = segments; n > 0; n--, segment += jump) {
            const int8_t *from = segment;
            int32_t left = steps;
            for (; left >= 4; left -= 4, from += STEP) {
                const block_rows x = load_rows(from, stride);
                ADD256(0);
                ADD256(1);
                ADD256(2);
                ADD256(3);
            }
            if (left > 0) {
                const block_rows x = load_rows(from, stride);
                ADD256(0);
                if (left > 1)
                    ADD256(1);
                if (left > 2)
                    ADD256(2);
            }
        }
        IN_ORDER(m);
        const float16 multipliers = load_multipliers(m);
        store16(out[0] + o, s.s0, multipliers, &clamp);
        store16(out[1] + o, s.s1, multipliers, &clamp);
        store16(out[2] + o, s.s2, multipliers, &clamp);
        store16(out[3] + o, s.s3, multipliers, &clamp);
    }
}

/* ---- One row --------------------------------------------------------------------------------- */

/* One row and `count` tiles, a constant: one or two. */
INLINE void row_tiles(const int count, const conv_tiles *tiles, int32_t t, const int8_t *x,
                      int32_t depth, int8_t *out, const requant *r)
{
    const int8_t *w0 = tiles->weights + t * tiles->bytes, *w1 = w0 + tiles->bytes;
    const int32_t *start = tiles->start + t * TILE_N;
    const float *m = tiles->multiplier + t * TILE_N;
    int32_t left = ek_ceil_div(depth, TILE_K);
    sums16 s0 = load_start(start);
    sums16 s1 = count > 1 ? load_start(start + TILE_N) : s0;
    for (; left >= 4; left -= 4, x += STEP) {
        const int8x16_t v = vld1q_s8(x);
        ADD64(0, s0, v, vld1q_s8_x4(w0));
        ADD64(1, s0, v, vld1q_s8_x4(w0 + 64));
        ADD64(2, s0, v, vld1q_s8_x4(w0 + 128));
        ADD64(3, s0, v, vld1q_s8_x4(w0 + 192));
        w0 += 256;
        if (count > 1) {
            ADD64(0, s1, v, vld1q_s8_x4(w1));
            ADD64(1, s1, v, vld1q_s8_x4(w1 + 64));
            ADD64(2, s1, v, vld1q_s8_x4(w1 + 128));
            ADD64(3, s1, v, vld1q_s8_x4(w1 + 192));
            w1 += 256;
        }
    }
    for (; left > 0; left--, x += TILE_K, w0 += 64, w1 += 64) {
        int32_t four;
        memcpy(&four, x, sizeof four);
        const int8x16_t v = vreinterpretq_s8_s32(vdupq_n_s32(four));
        ADD64(0, s0, v, vld1q_s8_x4(w0));
        if (count > 1)
            ADD64(0, s1, v, vld1q_s8_x4(w1));
    }
    store16(out + t * TILE_N, s0, load_multipliers(m), r);
    if (count > 1)
        store16(out + (t + 1) * TILE_N, s1, load_multipliers(m + TILE_N), r);
}

static __attribute__((noinline)) void row_all_tiles(const conv_tiles *tiles, const int8_t *x,
                                                    int32_t depth, int8_t *out,
                                                    const requant *r)
{
    const requant clamp = *r;
    int32_t t = 0;
    for (; t + 2 <= tiles->count; t += 2)
        row_tiles(2, tiles, t, x, depth, out, &clamp);
    if (t < tiles->count)
        row_tiles(1, tiles, t, x, depth, out, &clamp);
}

/* ---- The kernel ------------------------------------------------------------------------------ */

static void multiply(const conv_tiles *tiles, const conv_rows *rows, const requant *r)
{
    const int32_t whole = rows->count / BLOCK * BLOCK;
    for (int32_t t = 0; whole > 0 && t < tiles->count; t++)
        tile_rows(tiles, rows, t, whole, r);
    for (int32_t i = whole; i < rows->count; i++)
        row_all_tiles(tiles, rows->x + i * rows->stride, rows->segment,
                      rows->out[i] + tiles->out, r);
}

int ek_conv2d_dotprod_supports(const void *params)
{
    return conv_supports(params);
}

size_t ek_conv2d_dotprod_scratch(const void *params)
{
    const conv_shape s = conv_shape_of(params);
    return panel_scratch(&s);
}

void ek_conv2d_dotprod(const void *params, const void *const in[], void *out, void *scratch,
                       const ek_range *range)
{
    const ek_conv_params *p = params;
    const conv_shape s = conv_shape_of(p);
    conv_range(p, &s, in[0], out, scratch, range);
}
