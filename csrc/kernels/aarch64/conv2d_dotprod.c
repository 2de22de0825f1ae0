/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolution and dense layers as a matrix product of bytes with the dot product instruction: a
 * lane of weights holds four values of one channel, and is multiplied with the same four of a row.
 * Four rows of sixteen channels are sixteen vectors of sums; no lanes are left to be added.
 */
#define TILE_N 16
#define TILE_K 4
#define BLOCK 4
#define HALF 8

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

/* The next sixteen values of each row. */
typedef struct block_rows {
    int8x16_t x0, x1, x2, x3;
} block_rows;

/* The next two vectors of a row in one instruction, which compilers do not choose. */
#define LOAD_PAIR(a, b, pointer)                                                                \
    __asm__ volatile("ldp %q0, %q1, [%2], #32" : "=w"(a), "=w"(b), "+r"(pointer) : : "memory")

/* What is read through the pointer is not read before here: compilers move loads of weights ahead
 * until the sums are spilled, and copy registers where a load would do. */
#define IN_ORDER(pointer) __asm__ volatile("" : "+r"(pointer))

/* The sums stay in their registers: GCC otherwise exchanges some of them in every step, and clang
 * would copy them for this. */
#ifdef __clang__
#define IN_PLACE(s) (void)0
#else
#define IN_PLACE(s) __asm__ volatile("" : "+w"((s).a), "+w"((s).b), "+w"((s).c), "+w"((s).d))
#endif

#define ADD256(k, x)                                                                            \
    do {                                                                                        \
        IN_ORDER(w);                                                                            \
        const int8x16x4_t v_ = vld1q_s8_x4(w);                                                  \
        w += TILE_N * TILE_K;                                                                   \
        ADD64(k, s.s0, (x).x0, v_);                                                             \
        ADD64(k, s.s1, (x).x1, v_);                                                             \
        ADD64(k, s.s2, (x).x2, v_);                                                             \
        ADD64(k, s.s3, (x).x3, v_);                                                             \
        IN_PLACE(s.s2);                                                                         \
        IN_PLACE(s.s3);                                                                         \
    } while (0)

/* One tile and the first `count` rows, a multiple of BLOCK. Kept out of line: in a larger function
 * the registers do not suffice. */
static __attribute__((noinline)) void tile_rows(const conv_tiles *tiles, const conv_rows *rows,
                                                int32_t t, int32_t count, const requant *r)
{
    const int32_t steps = ek_ceil_div(rows->segment, TILE_K);
    const int32_t *start = tiles->start + t * TILE_N;
    const float *m = tiles->multiplier + t * TILE_N;
    const int32_t o = tiles->out + t * TILE_N;
    const int8_t *weights = tiles->weights + t * tiles->bytes;
    const ptrdiff_t back = rows->jump - steps / 4 * STEP;
    const int32_t segments = rows->segments;
    const conv_row *row = rows->row;
    for (const conv_row *end = row + count; row != end; row += BLOCK) {
        const int8_t *from0 = row[0].x, *from1 = row[1].x, *from2 = row[2].x, *from3 = row[3].x;
        const int8_t *w = weights;
        block_sums s;
        s.s0 = load_start(start);
        IN_ORDER(start);
        s.s1 = load_start(start);
        IN_ORDER(start);
        s.s2 = load_start(start);
        IN_ORDER(start);
        s.s3 = load_start(start);
        for (int32_t n = segments;;) {
            int32_t left = steps;
            for (; left >= 8; left -= 8) {
                block_rows x, y;
                LOAD_PAIR(x.x0, y.x0, from0);
                LOAD_PAIR(x.x1, y.x1, from1);
                LOAD_PAIR(x.x2, y.x2, from2);
                LOAD_PAIR(x.x3, y.x3, from3);
                ADD256(0, x);
                ADD256(1, x);
                ADD256(2, x);
                ADD256(3, x);
                ADD256(0, y);
                ADD256(1, y);
                ADD256(2, y);
                ADD256(3, y);
            }
            if (left >= 4) {
                const block_rows x = {vld1q_s8(from0), vld1q_s8(from1), vld1q_s8(from2),
                                      vld1q_s8(from3)};
                left -= 4;
                ADD256(0, x);
                ADD256(1, x);
                ADD256(2, x);
                ADD256(3, x);
                from0 += STEP;
                from1 += STEP;
                from2 += STEP;
                from3 += STEP;
            }
            if (left > 0) {
                const block_rows x = {vld1q_s8(from0), vld1q_s8(from1), vld1q_s8(from2),
                                      vld1q_s8(from3)};
                ADD256(0, x);
                if (left > 1)
                    ADD256(1, x);
                if (left > 2)
                    ADD256(2, x);
            }
            if (--n == 0)
                break;
            from0 += back;
            from1 += back;
            from2 += back;
            from3 += back;
        }
        IN_ORDER(m);
        IN_ORDER(r);
        const requant clamp = *r;
        const float16 multipliers = load_multipliers(m);
        store16(row[0].out + o, s.s0, multipliers, &clamp);
        store16(row[1].out + o, s.s1, multipliers, &clamp);
        store16(row[2].out + o, s.s2, multipliers, &clamp);
        store16(row[3].out + o, s.s3, multipliers, &clamp);
    }
}

/* ---- One row --------------------------------------------------------------------------------- */

/* One row and `count` tiles, a constant: one or two. */
INLINE void row_tiles(const int count, const conv_tiles *tiles, int32_t t, const conv_rows *rows,
                      const conv_row *row, const requant *r)
{
    const int8_t *w0 = tiles->weights + t * tiles->bytes, *w1 = w0 + tiles->bytes;
    const int32_t *start = tiles->start + t * TILE_N;
    const float *m = tiles->multiplier + t * TILE_N;
    const int8_t *segment = row->x;
    int8_t *out = row->out + tiles->out + t * TILE_N;
    sums16 s0 = load_start(start);
    sums16 s1 = count > 1 ? load_start(start + TILE_N) : s0;
    for (int32_t n = rows->segments; n > 0; n--, segment += rows->jump) {
        const int8_t *x = segment;
        int32_t left = ek_ceil_div(rows->segment, TILE_K);
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
    }
    store16(out, s0, load_multipliers(m), r);
    if (count > 1)
        store16(out + TILE_N, s1, load_multipliers(m + TILE_N), r);
}

static __attribute__((noinline)) void row_all_tiles(const conv_tiles *tiles, const conv_rows *rows,
                                                    const conv_row *row, const requant *r)
{
    const requant clamp = *r;
    int32_t t = 0;
    for (; t + 2 <= tiles->count; t += 2)
        row_tiles(2, tiles, t, rows, row, &clamp);
    if (t < tiles->count)
        row_tiles(1, tiles, t, rows, row, &clamp);
}

/* ---- Eight rows, half a tile ----------------------------------------------------------------- */

#define HALF_BLOCK 8

/* Sums of eight channels. */
typedef struct sums8 {
    int32x4_t a, b;
} sums8;

INLINE sums8 load_half_start(const int32_t *start)
{
    return (sums8){vld1q_s32(start), vld1q_s32(start + 4)};
}

/* The next sixteen values of each row. */
typedef struct half_block {
    int8x16_t x0, x1, x2, x3, x4, x5, x6, x7;
} half_block;

INLINE half_block load_half_rows(const conv_row *row, ptrdiff_t at)
{
    return (half_block){vld1q_s8(row[0].x + at), vld1q_s8(row[1].x + at),
                        vld1q_s8(row[2].x + at), vld1q_s8(row[3].x + at),
                        vld1q_s8(row[4].x + at), vld1q_s8(row[5].x + at),
                        vld1q_s8(row[6].x + at), vld1q_s8(row[7].x + at)};
}

/* Four values of each row, lane `k` (a literal), by those of eight channels. */
#define ADD32(k, s, x)                                                                          \
    (s).a = vdotq_laneq_s32((s).a, w0_, x, k);                                                  \
    (s).b = vdotq_laneq_s32((s).b, w1_, x, k)
#define ADD_HALF(k)                                                                             \
    do {                                                                                        \
        IN_ORDER(w);                                                                            \
        const int8x16_t w0_ = vld1q_s8(w + 64 * (k)), w1_ = vld1q_s8(w + 64 * (k) + 16);        \
        ADD32(k, s0, x.x0);                                                                     \
        ADD32(k, s1, x.x1);                                                                     \
        ADD32(k, s2, x.x2);                                                                     \
        ADD32(k, s3, x.x3);                                                                     \
        ADD32(k, s4, x.x4);                                                                     \
        ADD32(k, s5, x.x5);                                                                     \
        ADD32(k, s6, x.x6);                                                                     \
        ADD32(k, s7, x.x7);                                                                     \
    } while (0)

/* Two rows. */
INLINE void store_half(const conv_row *row, int32_t o, sums8 a, sums8 b, float32x4_t low,
                       float32x4_t high, const requant *r)
{
    const int32x4_t acc[4] = {a.a, a.b, b.a, b.b};
    const float32x4_t multipliers[4] = {low, high, low, high};
    const int8x16_t y = ek_requantize16_neon(acc, multipliers, r);
    vst1_s8(row[0].out + o, vget_low_s8(y));
    vst1_s8(row[1].out + o, vget_high_s8(y));
}

/* A multiple of HALF_BLOCK rows. */
static __attribute__((noinline)) void half_rows(const conv_tiles *tile, const conv_rows *rows,
                                                const conv_row *row, int32_t count,
                                                const requant *r)
{
    const int32_t steps = ek_ceil_div(rows->segment, TILE_K), segments = rows->segments;
    const ptrdiff_t jump = rows->jump;
    const int32_t o = tile->out;
    const int32_t *start = tile->start;
    const int8_t *const weights = tile->weights;
    const float *m = tile->multiplier;
    for (const conv_row *end = row + count; row != end; row += HALF_BLOCK) {
        const int8_t *w = weights;
        ptrdiff_t segment = 0;
        sums8 s0 = load_half_start(start), s1 = s0, s2 = s0, s3 = s0;
        sums8 s4 = s0, s5 = s0, s6 = s0, s7 = s0;
        for (int32_t n = segments; n > 0; n--, segment += jump) {
            ptrdiff_t at = segment;
            int32_t left = steps;
            for (; left >= 4; left -= 4, at += STEP, w += 256) {
                const half_block x = load_half_rows(row, at);
                ADD_HALF(0);
                ADD_HALF(1);
                ADD_HALF(2);
                ADD_HALF(3);
            }
            if (left > 0) {
                const half_block x = load_half_rows(row, at);
                ADD_HALF(0);
                if (left > 1)
                    ADD_HALF(1);
                if (left > 2)
                    ADD_HALF(2);
                w += 64 * left;
            }
        }
        IN_ORDER(m);
        IN_ORDER(r);
        const float32x4_t low = vld1q_f32(m), high = vld1q_f32(m + 4);
        const requant clamp = *r;
        store_half(row, o, s0, s1, low, high, &clamp);
        store_half(row + 2, o, s2, s3, low, high, &clamp);
        store_half(row + 4, o, s4, s5, low, high, &clamp);
        store_half(row + 6, o, s6, s7, low, high, &clamp);
    }
}

/* Fewer than HALF_BLOCK rows at the end are filled up with the last one. */
static void multiply_half(const conv_tiles *tile, const conv_rows *rows, const requant *r)
{
    const int32_t whole = rows->count / HALF_BLOCK * HALF_BLOCK;
    conv_row rest[HALF_BLOCK];
    if (whole > 0)
        half_rows(tile, rows, rows->row, whole, r);
    if (whole == rows->count)
        return;
    for (int32_t i = 0; i < HALF_BLOCK; i++)
        rest[i] = rows->row[ek_min(whole + i, rows->count - 1)];
    half_rows(tile, rows, rest, HALF_BLOCK, r);
}

/* ---- The kernel ------------------------------------------------------------------------------ */

static void multiply(const conv_tiles *tiles, const conv_rows *rows, const requant *r)
{
    const int32_t whole = rows->count / BLOCK * BLOCK;
    for (int32_t t = 0; whole > 0 && t < tiles->count; t++)
        tile_rows(tiles, rows, t, whole, r);
    for (int32_t i = whole; i < rows->count; i++)
        row_all_tiles(tiles, rows, rows->row + i, r);
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
