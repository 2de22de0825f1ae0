/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolution and dense layers as a matrix product of bytes with the matrix multiply instruction,
 * which multiplies eight values of two rows with those of two channels. Eight rows of eight
 * channels are sixteen vectors of sums, each a square of two rows and two channels.
 */
#define TILE_N 8
#define TILE_K 8
#define BLOCK 8

#include "../arm/conv2d_panel.h"

#define STEP 16 /* values of a row in a vector */

/* Sums of two rows and eight channels. */
typedef struct squares {
    int32x4_t a, b, c, d;
} squares;

/* Eight values of eight channels. */
typedef struct weights8 {
    int8x16_t a, b, c, d;
} weights8;

INLINE weights8 load_weights(const int8_t *w)
{
    const int8x16x4_t v = vld1q_s8_x4(w);
    return (weights8){v.val[0], v.val[1], v.val[2], v.val[3]};
}

INLINE int32x4_t twice(int32x2_t v) { return vcombine_s32(v, v); }

INLINE squares load_start(const int32_t *start)
{
    return (squares){twice(vld1_s32(start)), twice(vld1_s32(start + 2)),
                     twice(vld1_s32(start + 4)), twice(vld1_s32(start + 6))};
}

/* Two rows of sixteen values, split into what is multiplied at once. */
typedef struct row_pair {
    int8x16_t low, high;
} row_pair;

INLINE row_pair load_pair(const int8_t *x0, const int8_t *x1)
{
    const int64x2_t a = vreinterpretq_s64_s8(vld1q_s8(x0)), b = vreinterpretq_s64_s8(vld1q_s8(x1));
    return (row_pair){vreinterpretq_s8_s64(vzip1q_s64(a, b)),
                      vreinterpretq_s8_s64(vzip2q_s64(a, b))};
}

INLINE squares add(squares s, int8x16_t x, weights8 w)
{
    s.a = vmmlaq_s32(s.a, x, w.a);
    s.b = vmmlaq_s32(s.b, x, w.b);
    s.c = vmmlaq_s32(s.c, x, w.c);
    s.d = vmmlaq_s32(s.d, x, w.d);
    return s;
}

INLINE int32x4_t zip1(int32x4_t a, int32x4_t b)
{
    return vreinterpretq_s32_s64(vzip1q_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b)));
}

INLINE int32x4_t zip2(int32x4_t a, int32x4_t b)
{
    return vreinterpretq_s32_s64(vzip2q_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b)));
}

INLINE void store(int8_t *y0, int8_t *y1, squares s, const float *m, const requant *r)
{
    const int32x4_t acc[4] = {zip1(s.a, s.b), zip1(s.c, s.d), zip2(s.a, s.b), zip2(s.c, s.d)};
    const float32x4_t low = vld1q_f32(m), high = vld1q_f32(m + 4);
    const float32x4_t multipliers[4] = {low, high, low, high};
    const int8x16_t lanes = ek_requantize16_neon(acc, multipliers, r);
    vst1_s8(y0, vget_low_s8(lanes));
    vst1_s8(y1, vget_high_s8(lanes));
}

/* ---- Eight rows, one tile -------------------------------------------------------------------- */

/* Compilers move loads of weights ahead until the sums are spilled; memory is not read before
 * here. */
#define IN_ORDER(w) __asm__ volatile("" : "+r"(w))

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
    const ptrdiff_t jump = rows->jump;
    const int32_t segments = rows->segments;
    const conv_row *row = rows->row;
    for (const conv_row *end = row + count; row != end; row += BLOCK) {
        const int8_t *w = weights;
        const int8_t *const x0 = row[0].x, *const x1 = row[1].x, *const x2 = row[2].x;
        const int8_t *const x3 = row[3].x, *const x4 = row[4].x, *const x5 = row[5].x;
        const int8_t *const x6 = row[6].x, *const x7 = row[7].x;
        ptrdiff_t segment = 0;
        squares s0 = load_start(start), s1 = s0, s2 = s0, s3 = s0;
        for (int32_t n = segments; n > 0; n--, segment += jump) {
            ptrdiff_t at = segment;
            for (int32_t left = steps; left > 0; left -= 2, at += STEP) {
                const row_pair p0 = load_pair(x0 + at, x1 + at);
                const row_pair p1 = load_pair(x2 + at, x3 + at);
                const row_pair p2 = load_pair(x4 + at, x5 + at);
                const row_pair p3 = load_pair(x6 + at, x7 + at);
                IN_ORDER(w);
                weights8 v = load_weights(w);
                w += TILE_N * TILE_K;
                s0 = add(s0, p0.low, v);
                s1 = add(s1, p1.low, v);
                s2 = add(s2, p2.low, v);
                s3 = add(s3, p3.low, v);
                if (left == 1)
                    break;
                IN_ORDER(w);
                v = load_weights(w);
                w += TILE_N * TILE_K;
                s0 = add(s0, p0.high, v);
                s1 = add(s1, p1.high, v);
                s2 = add(s2, p2.high, v);
                s3 = add(s3, p3.high, v);
            }
        }
        store(row[0].out + o, row[1].out + o, s0, m, &clamp);
        store(row[2].out + o, row[3].out + o, s1, m, &clamp);
        store(row[4].out + o, row[5].out + o, s2, m, &clamp);
        store(row[6].out + o, row[7].out + o, s3, m, &clamp);
    }
}

/* ---- Two rows, or one twice ------------------------------------------------------------------ */

static __attribute__((noinline)) void pair_tiles(const conv_tiles *tiles, const conv_rows *rows,
                                                 const conv_row *first, const conv_row *second,
                                                 const requant *r)
{
    const requant clamp = *r;
    const int32_t steps = ek_ceil_div(rows->segment, TILE_K);
    for (int32_t t = 0; t < tiles->count; t++) {
        const int8_t *w = tiles->weights + t * tiles->bytes;
        ptrdiff_t segment = 0;
        squares s = load_start(tiles->start + t * TILE_N);
        for (int32_t n = rows->segments; n > 0; n--, segment += rows->jump) {
            ptrdiff_t at = segment;
            for (int32_t left = steps; left > 0; left -= 2, at += STEP) {
                const row_pair p = load_pair(first->x + at, second->x + at);
                s = add(s, p.low, load_weights(w));
                w += TILE_N * TILE_K;
                if (left == 1)
                    break;
                s = add(s, p.high, load_weights(w));
                w += TILE_N * TILE_K;
            }
        }
        const int32_t o = tiles->out + t * TILE_N;
        store(first->out + o, second->out + o, s, tiles->multiplier + t * TILE_N, &clamp);
    }
}

/* ---- The kernel ------------------------------------------------------------------------------ */

static void multiply(const conv_tiles *tiles, const conv_rows *rows, const requant *r)
{
    const int32_t whole = rows->count / BLOCK * BLOCK, last = rows->count - 1;
    for (int32_t t = 0; whole > 0 && t < tiles->count; t++)
        tile_rows(tiles, rows, t, whole, r);
    for (int32_t i = whole; i < rows->count; i += 2)
        pair_tiles(tiles, rows, rows->row + i, rows->row + ek_min(i + 1, last), r);
}

/* One row is left to the dot product, which wastes none of its products on a second. */
int ek_conv2d_i8mm_supports(const void *params)
{
    const ek_conv_params *p = params;
    return conv_supports(p) && (p->out.n > 1 || p->out.h > 1 || p->out.w > 1);
}

size_t ek_conv2d_i8mm_scratch(const void *params)
{
    const conv_shape s = conv_shape_of(params);
    return panel_scratch(&s);
}

void ek_conv2d_i8mm(const void *params, const void *const in[], void *out, void *scratch,
                    const ek_range *range)
{
    const ek_conv_params *p = params;
    const conv_shape s = conv_shape_of(p);
    conv_range(p, &s, in[0], out, scratch, range);
}
