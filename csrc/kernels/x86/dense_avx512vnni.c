/* SPDX-License-Identifier: Apache-2.0
 *
 * Dense layers of one row with vpdpbusd: weights are operands in memory, four activations at a time
 * are made unsigned in the register that all lanes of all tiles share.
 */
#include "vnni_avx512.h"

#include "dense.h"

#define TILES 8
#define STEP (TILE_N * TILE_K) /* bytes of a tile's weights for four activations */
#define CHAINS 4               /* of sums that a tile on its own needs to hide vpdpbusd's latency */

/* Tiles whose weights are this far apart, or a multiple, fall into the same lines of a first level
 * cache of 32 KB or 48 KB. */
#define ALIAS 4096

/* Up to TILES tiles of channels. */
typedef struct dense_block {
    const int8_t *weights;
    ptrdiff_t tile_bytes; /* from one tile's weights to the next one's */
    const int8_t *x;
    int32_t depth;
    const int32_t *start;
    const float *multiplier;
    int8_t *out;
    int32_t tiles;
    uint64_t lanes[TILES * TILE_N / 64];  /* bits of the channels that exist */
    uint64_t stored[TILES * TILE_N / 64]; /* and of those in the range */
} dense_block;

/* Four activations, unsigned, in every lane. */
INLINE __m512i activations(const int8_t *x)
{
    return _mm512_xor_si512(broadcast4((const uint8_t *)x), _mm512_set1_epi8(-128));
}

/* The last `count` of them, 1 to 4; weights behind them are zero. */
INLINE __m512i last_activations(const int8_t *x, int32_t count)
{
    uint32_t bytes = 0;
    memcpy(&bytes, x, (size_t)count);
    return _mm512_xor_si512(_mm512_set1_epi32((int32_t)bytes), _mm512_set1_epi8(-128));
}

INLINE __mmask16 lanes_of(const dense_block *block, int tile)
{
    return (__mmask16)(block->lanes[tile / 4] >> tile % 4 * TILE_N);
}

/* 64 channels as int8. */
INLINE __m512i requantize4(const __m512i *acc, const __m512 *multiplier, const requant *r)
{
    __m512i y[4];
    UNROLL for (int i = 0; i < 4; i++) y[i] = ek_requantize_top(acc[i], multiplier[i], r);
    return ek_pack64(y[0], y[1], y[2], y[3], r);
}

/* TILES whole tiles at once: their sums hide the latency, and they share the activations. */
INLINE void multiply_together(const dense_block *block, const requant *r)
{
    const ptrdiff_t tile_bytes = block->tile_bytes;
    const int8_t *w = block->weights, *x = block->x;
    __m512i acc[TILES];
    UNROLL for (int i = 0; i < TILES; i++) acc[i] = load64(block->start + i * TILE_N);
    int32_t k = block->depth;
    for (; k >= TILE_K; k -= TILE_K, x += TILE_K, w += STEP) {
        const __m512i v = activations(x);
        UNROLL for (int i = 0; i < TILES; i++) acc[i] = dot4_at(acc[i], v, w + i * tile_bytes);
    }
    if (k > 0) {
        const __m512i v = last_activations(x, k);
        UNROLL for (int i = 0; i < TILES; i++) acc[i] = dot4_at(acc[i], v, w + i * tile_bytes);
    }
    UNROLL for (int i = 0; i < TILES; i += 4) {
        __m512 multiplier[4];
        UNROLL for (int j = 0; j < 4; j++)
            multiplier[j] = _mm512_loadu_ps(block->multiplier + (i + j) * TILE_N);
        _mm512_storeu_si512(block->out + i * TILE_N, requantize4(acc + i, multiplier, r));
    }
}

/* The sums of one tile. */
INLINE __m512i sum_tile(const dense_block *block, int tile)
{
    const int8_t *w = block->weights + tile * block->tile_bytes, *x = block->x;
    __m512i acc[CHAINS];
    acc[0] = _mm512_maskz_loadu_epi32(lanes_of(block, tile), block->start + tile * TILE_N);
    UNROLL for (int i = 1; i < CHAINS; i++) acc[i] = _mm512_setzero_si512();
    int32_t k = block->depth;
    for (; k >= CHAINS * TILE_K; k -= CHAINS * TILE_K, x += CHAINS * TILE_K, w += CHAINS * STEP)
        UNROLL for (int i = 0; i < CHAINS; i++)
            acc[i] = dot4_at(acc[i], activations(x + i * TILE_K), w + i * STEP);
    for (; k > 0; k -= TILE_K, x += TILE_K, w += STEP)
        acc[0] = dot4_at(acc[0], last_activations(x, ek_min(k, TILE_K)), w);
    return _mm512_add_epi32(_mm512_add_epi32(acc[0], acc[1]), _mm512_add_epi32(acc[2], acc[3]));
}

/* Any tiles, one after the other: weights are read as they lie. */
static __attribute__((noinline)) void multiply_in_turn(const dense_block *block, const requant *r)
{
    for (int i = 0; i < block->tiles; i += 4) {
        __m512i acc[4];
        __m512 multiplier[4];
        UNROLL for (int j = 0; j < 4; j++) {
            acc[j] = i + j < block->tiles ? sum_tile(block, i + j) : _mm512_setzero_si512();
            multiplier[j] = _mm512_maskz_loadu_ps(lanes_of(block, i + j),
                                                  block->multiplier + (i + j) * TILE_N);
        }
        _mm512_mask_storeu_epi8(block->out + i * TILE_N, block->stored[i / 4],
                                requantize4(acc, multiplier, r));
    }
}

/* What exists of the block and is in [first, end), counted in its channels. */
static void set_channels(dense_block *block, int32_t lanes, int32_t first, int32_t end)
{
    block->tiles = ek_min(ek_ceil_div(end, TILE_N), TILES);
    for (int32_t i = 0; i < TILES * TILE_N / 64; i++) {
        block->lanes[i] = low_bits(ek_max(lanes - i * 64, 0));
        block->stored[i] =
            low_bits(ek_max(end - i * 64, 0)) & ~low_bits(ek_max(first - i * 64, 0));
    }
}

int ek_dense_avx512vnni_supports(const void *params)
{
    return ek_dense_supports(params);
}

void ek_dense_avx512vnni(const void *params, const void *const in[], void *out, void *scratch,
                         const ek_range *range)
{
    (void)scratch;
    const ek_conv_params *p = params;
    const requant r = ek_requant_avx512vnni_init(&p->clamp);
    dense_block block = {.tile_bytes = (ptrdiff_t)((p->in.c + TILE_K - 1) / TILE_K) * STEP,
                         .x = in[0],
                         .depth = p->in.c};
    for (int32_t n = range->ch / TILE_N * TILE_N; n < range->ch_end; n += TILES * TILE_N) {
        block.weights = p->weights.data + n / TILE_N * block.tile_bytes;
        block.start = p->start + n;
        block.multiplier = p->multiplier + n;
        block.out = (int8_t *)out + n;
        if (n >= range->ch && n + TILES * TILE_N <= range->ch_end
            && block.tile_bytes % ALIAS != 0) {
            multiply_together(&block, &r);
            continue;
        }
        set_channels(&block, p->out.c - n, range->ch - n, range->ch_end - n);
        multiply_in_turn(&block, &r);
    }
}
