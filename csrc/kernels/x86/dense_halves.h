/* SPDX-License-Identifier: Apache-2.0
 *
 * Body of dense_avx2.c and dense_sse41.c. pmaddubsw takes weights as they lie in memory, but adds
 * two products in 16 bits, where those of whole bytes do not fit. So an activation, made unsigned
 * by adding 128, is cut in halves of four bits, u = 16 * high + low, and each half is multiplied:
 *
 *     |15 * -128 + 15 * -128| = 3840, and eight such pairs are at most 30720
 *
 * Eight steps of depth are therefore added up in 16 bits before pmaddwd widens them: 4.25
 * instructions for 32 products, where weights that are widened first take 6.
 */
#include "dense.h"
#include "vector.h"

#define INLINE static inline __attribute__((always_inline))

/* Loops over registers must disappear. */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

#define STEP (TILE_N * TILE_K)        /* bytes of a tile's weights for four activations */
#define PARTS (STEP / (4 * LANES))    /* vectors of them */
#define VECTORS 4                     /* of weights, and of sums, in a block */
#define BLOCK (VECTORS * LANES)       /* channels */
#define STEPS 8                       /* that are added up in 16 bits */

#ifdef EK_VECTOR_AVX2

#define X_STEP 8 /* bytes of a prepared step: four high halves, then four low ones */

INLINE vint load_vector(const int8_t *from)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)from);
}

INLINE vint load_half(const uint8_t *x, int low)
{
    int32_t bytes;
    memcpy(&bytes, x + low * 4, sizeof bytes);
    return _mm256_set1_epi32(bytes);
}

INLINE vint multiply_pairs(vint x, vint w)
{
    return _mm256_maddubs_epi16(x, w);
}

/* sum + products, in assembly because GCC otherwise multiplies all steps first and spills. */
INLINE vint add16(vint sum, vint products)
{
    __asm__ volatile("vpaddw %1, %0, %0" : "+x"(sum) : "x"(products));
    return sum;
}

INLINE void store_steps(uint8_t *to, __m128i high, __m128i low)
{
    _mm_storeu_si128((__m128i *)(void *)to, _mm_unpacklo_epi32(high, low));
    _mm_storeu_si128((__m128i *)(void *)(to + 16), _mm_unpackhi_epi32(high, low));
}

INLINE void store_channels(int8_t *to, const int vectors, const vint *y, const requant *r)
{
    const __m256i all = ek_pack32_avx2(y[0], y[1], y[vectors - 2], y[vectors - 1], r);
    if (vectors == VECTORS)
        _mm256_storeu_si256((__m256i *)(void *)to, all);
    else
        _mm_storeu_si128((__m128i *)(void *)to, _mm256_castsi256_si128(all));
}

#else

#define X_STEP 32 /* bytes of a prepared step: four high halves four times, then so the low ones */

INLINE vint load_vector(const int8_t *from)
{
    return _mm_loadu_si128((const __m128i *)(const void *)from);
}

INLINE vint load_half(const uint8_t *x, int low)
{
    return _mm_loadu_si128((const __m128i *)(const void *)(x + low * 16));
}

INLINE vint multiply_pairs(vint x, vint w)
{
    return _mm_maddubs_epi16(x, w);
}

INLINE vint add16(vint sum, vint products)
{
    __asm__ volatile("paddw %1, %0" : "+x"(sum) : "x"(products));
    return sum;
}

INLINE void store_step(uint8_t *to, __m128i high, __m128i low)
{
    _mm_storeu_si128((__m128i *)(void *)to, high);
    _mm_storeu_si128((__m128i *)(void *)(to + 16), low);
}

INLINE void store_steps(uint8_t *to, __m128i high, __m128i low)
{
    store_step(to, _mm_shuffle_epi32(high, 0x00), _mm_shuffle_epi32(low, 0x00));
    store_step(to + X_STEP, _mm_shuffle_epi32(high, 0x55), _mm_shuffle_epi32(low, 0x55));
    store_step(to + 2 * X_STEP, _mm_shuffle_epi32(high, 0xAA), _mm_shuffle_epi32(low, 0xAA));
    store_step(to + 3 * X_STEP, _mm_shuffle_epi32(high, 0xFF), _mm_shuffle_epi32(low, 0xFF));
}

INLINE void store_channels(int8_t *to, const int vectors, const vint *y, const requant *r)
{
    (void)vectors;
    _mm_storeu_si128((__m128i *)(void *)to, ek_pack16_sse41(y[0], y[1], y[2], y[3], r));
}

#endif

/* Up to BLOCK channels. */
typedef struct dense_block {
    const int8_t *weights;
    ptrdiff_t tile_bytes; /* from one tile's weights to the next one's */
    const uint8_t *x;     /* prepared */
    int32_t steps;
    const int32_t *start; /* of whole tiles, like `multiplier` */
    const float *multiplier;
} dense_block;

/* Sixteen activations in halves: four steps. */
INLINE void split(uint8_t *to, __m128i x)
{
    const __m128i low_half = _mm_set1_epi8(15);
    const __m128i u = _mm_xor_si128(x, _mm_set1_epi8(-128));
    store_steps(to, _mm_and_si128(_mm_srli_epi16(u, 4), low_half), _mm_and_si128(u, low_half));
}

static void prepare(uint8_t *to, const int8_t *x, int32_t count)
{
    for (; count >= 16; count -= 16, x += 16, to += 4 * X_STEP)
        split(to, _mm_loadu_si128((const __m128i *)(const void *)x));
    if (count > 0) {
        int8_t rest[16] = {0};
        memcpy(rest, x, (size_t)count);
        split(to, _mm_loadu_si128((const __m128i *)(const void *)rest));
    }
}

/* Adds `steps` steps, 1 to STEPS, to the sums. */
INLINE void add_steps(const int vectors, const dense_block *block, int32_t at, const int steps,
                      vint *sums)
{
    const uint8_t *x = block->x + (ptrdiff_t)at * X_STEP;
    const int8_t *w = block->weights + (ptrdiff_t)at * STEP;
    vint high[VECTORS], low[VECTORS];
    UNROLL for (int k = 0; k < steps; k++, x += X_STEP, w += STEP) {
        const vint x_high = load_half(x, 0), x_low = load_half(x, 1);
        UNROLL for (int i = 0; i < vectors; i++) {
            vint v = load_vector(w + i / PARTS * block->tile_bytes + i % PARTS * 4 * LANES);
            __asm__("" : "+x"(v)); /* GCC would load it for each product */
            const vint h = multiply_pairs(x_high, v), l = multiply_pairs(x_low, v);
            high[i] = k == 0 ? h : add16(high[i], h);
            low[i] = k == 0 ? l : add16(low[i], l);
        }
    }
    UNROLL for (int i = 0; i < vectors; i++)
        sums[i] = v_add(sums[i], v_add(v_madd(high[i], v_set16(16)), v_madd(low[i], v_set16(1))));
}

INLINE void multiply(const int vectors, const dense_block *block, int8_t *out, const requant *r)
{
    vint sums[VECTORS], y[VECTORS];
    UNROLL for (int i = 0; i < vectors; i++) sums[i] = v_load(block->start + i * LANES);
    int32_t at = 0;
    for (; at + STEPS <= block->steps; at += STEPS) add_steps(vectors, block, at, STEPS, sums);
    for (; at < block->steps; at++) add_steps(vectors, block, at, 1, sums);
    UNROLL for (int i = 0; i < vectors; i++)
        y[i] = v_requantize(sums[i], v_loadf(block->multiplier + i * LANES), r);
    store_channels(out, vectors, y, r);
}

/* Kept out of line: in a larger function the registers do not suffice. */
static __attribute__((noinline)) void multiply_block(const dense_block *block, int8_t *out,
                                                     const requant *r)
{
    multiply(VECTORS, block, out, r);
}

static __attribute__((noinline)) void multiply_tile(const dense_block *block, int8_t *out,
                                                    const requant *r)
{
    multiply(PARTS, block, out, r);
}

/* One tile that lacks channels, or of which only some are wanted: those from `first` to `end` of
 * `lanes`. */
static void multiply_part(dense_block block, int8_t *out, int32_t lanes, int32_t first,
                          int32_t end, const requant *r)
{
    int32_t start[TILE_N] = {0};
    float multiplier[TILE_N] = {0};
    int8_t buffer[TILE_N];
    memcpy(start, block.start, (size_t)lanes * sizeof start[0]);
    memcpy(multiplier, block.multiplier, (size_t)lanes * sizeof multiplier[0]);
    block.start = start;
    block.multiplier = multiplier;
    multiply_tile(&block, buffer, r);
    memcpy(out + first, buffer + first, (size_t)(end - first));
}

int VECTOR_NAME_WITH(ek_dense, supports)(const void *params)
{
    return ek_dense_supports(params);
}

size_t VECTOR_NAME_WITH(ek_dense, scratch)(const void *params)
{
    const ek_conv_params *p = params;
    return (size_t)ek_ceil_div(p->in.c, 16) * 4 * X_STEP;
}

void VECTOR_NAME(ek_dense)(const void *params, const void *const in[], void *out, void *scratch,
                           const ek_range *range)
{
    const ek_conv_params *p = params;
    const requant r = requant_init(&p->clamp);
    const int32_t steps = ek_ceil_div(p->in.c, TILE_K);
    dense_block block = {.tile_bytes = (ptrdiff_t)steps * STEP, .x = scratch, .steps = steps};
    prepare(scratch, in[0], p->in.c);
    for (int32_t n = range->ch / TILE_N * TILE_N; n < range->ch_end;) {
        int8_t *y = (int8_t *)out + n;
        block.weights = p->weights.data + n / TILE_N * block.tile_bytes;
        block.start = p->start + n;
        block.multiplier = p->multiplier + n;
        if (n >= range->ch && n + BLOCK <= range->ch_end) {
            multiply_block(&block, y, &r);
            n += BLOCK;
            continue;
        }
        if (n >= range->ch && n + TILE_N <= range->ch_end)
            multiply_tile(&block, y, &r);
        else
            multiply_part(block, y, ek_min(p->out.c - n, TILE_N), ek_max(range->ch - n, 0),
                          ek_min(range->ch_end - n, TILE_N), &r);
        n += TILE_N;
    }
}
