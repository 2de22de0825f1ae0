/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolution and dense layers with vpdpbusd: a vector is four steps of depth for 16 channels, just
 * as the weights are packed. Up to 14 windows by 32 channels are summed in 28 registers; two more
 * hold weights and one the four activations that all lanes share. Of 16 channels, up to 16 windows.
 */
#include "vnni_avx512.h"

#define WINDOWS 16
#define WINDOWS_OF(tiles) ((tiles) == 1 ? 16 : 14)
#define TILES 2
#define ONE_TILES 8

#include "conv2d_vnni.h"

INLINE __m512i start_of(const conv_tile *tile, int i)
{
    return load64(tile->start + i * TILE_N);
}

INLINE __m512 multiplier_of(const conv_tile *tile, int i)
{
    return _mm512_loadu_ps(tile->multiplier + i * TILE_N);
}

/* Stores `windows` (a constant) rows of `tiles` (1 or 2) vectors, whose multipliers are below 1. */
INLINE void store_rows(const int windows, const int tiles, const conv_tile *tile,
                       __m512i acc[][TILES], int8_t *out, const requant *r)
{
    const __m512 m0 = multiplier_of(tile, 0), m1 = multiplier_of(tile, tiles - 1);
    const __mmask32 mask = (__mmask32)tile->stored[0];
    const ptrdiff_t step = tile->out_step;
    const int side_by_side = step == tiles * TILE_N && mask == low_bits(tiles * TILE_N);
    UNROLL for (int i = 0; i < windows; i += 4 / tiles) {
        __m512i y[4];
        UNROLL for (int j = 0; j < 4; j++) {
            const int window = i + j / tiles < windows ? i + j / tiles : i;
            y[j] = ek_requantize_small(acc[window][j % tiles], j % tiles ? m1 : m0);
        }
        const __m512i v = ek_pack64(y[0], y[1], y[2], y[3], r);
        if (side_by_side && i + 4 / tiles <= windows) {
            _mm512_storeu_si512(out, v);
        } else if (tiles == 2) {
            _mm256_mask_storeu_epi8(out, mask, _mm512_castsi512_si256(v));
            if (i + 1 < windows)
                _mm256_mask_storeu_epi8(out + step, mask, _mm512_extracti64x4_epi64(v, 1));
        } else {
            _mm_mask_storeu_epi8(out, (__mmask16)mask, _mm512_castsi512_si128(v));
            if (i + 1 < windows)
                _mm_mask_storeu_epi8(out + step, (__mmask16)mask, _mm512_extracti32x4_epi32(v, 1));
            if (i + 2 < windows)
                _mm_mask_storeu_epi8(out + 2 * step, (__mmask16)mask,
                                     _mm512_extracti32x4_epi32(v, 2));
            if (i + 3 < windows)
                _mm_mask_storeu_epi8(out + 3 * step, (__mmask16)mask,
                                     _mm512_extracti32x4_epi32(v, 3));
        }
        out += 4 / tiles * step;
    }
}

/* `windows` windows (a constant of 1 to WINDOWS_OF(tiles)) by `tiles` tiles (1 or 2). */
INLINE void multiply_block(const int windows, const int tiles, const conv_tile *tile,
                           const uint8_t *x, int8_t *out, const int8_t *ahead, ptrdiff_t pace,
                           const requant *r)
{
    const ptrdiff_t x_step = tile->x_step, tile_bytes = tile->tile_bytes;
    const int8_t *w = tile->weights;
    __m512i acc[WINDOWS][TILES];
    const __m512i start0 = start_of(tile, 0), start1 = start_of(tile, tiles - 1);
    UNROLL for (int i = 0; i < windows; i++) {
        acc[i][0] = start0;
        acc[i][tiles - 1] = start1;
    }
    for (int32_t row = 0; row < tile->rows; row++) {
        const uint8_t *at = x + row * tile->row_step;
        for (int32_t col = 0; col < tile->cols; col++, at += tile->col_step) {
            /* What a run needs of the tile is loaded from it each time: GCC would keep it in vector
             * registers, of which one tile leaves some, and their moves wait behind products. */
            if (tiles == 1)
                __asm__("" : "+r"(tile));
            /* Every third window has a pointer; two more are reached by an index. */
            const uint8_t *third[(WINDOWS + 2) / 3];
            UNROLL for (int i = 0; i < (windows + 2) / 3; i++) {
                third[i] = at + 3 * i * x_step;
                /* clang would rather go from window to window with an addition each. */
                __asm__("" : "+r"(third[i]));
            }
            for (int32_t k = tile->steps; k > 0; k--) {
                const __m512i w0 = load64(w), w1 = load64(w + (tiles - 1) * tile_bytes);
                if (tiles == 2) {
                    _mm_prefetch((const char *)ahead, _MM_HINT_T0);
                    ahead += pace;
                }
                UNROLL for (int i = 0; i < windows; i++) {
                    const __m512i v = broadcast4(third[i / 3] + i % 3 * x_step);
                    acc[i][0] = dot4(acc[i][0], v, w0);
                    if (tiles == 2)
                        acc[i][1] = dot4(acc[i][1], v, w1);
                }
                UNROLL for (int i = 0; i < (windows + 2) / 3; i++) third[i] += TILE_K;
                w += TILE_N * TILE_K;
            }
        }
    }
    /* What the stores need is loaded from here on: kept in registers it would push sums out. */
    __asm__("" : "+r"(r), "+r"(tile));
    store_rows(windows, tiles, tile, acc, out, r);
}

/* Whether a multiplier is 1 or larger: rare, as those of real networks are below 0.2. */
static int has_large_multipliers(const conv_tile *tile)
{
    const __m512 one = _mm512_set1_ps(1.0f);
    return (_mm512_cmp_ps_mask(multiplier_of(tile, 0), one, _CMP_GE_OQ)
            | _mm512_cmp_ps_mask(multiplier_of(tile, tile->count - 1), one, _CMP_GE_OQ))
        != 0;
}

static void multiply_each(const conv_tile *tile, const conv_windows *windows, const requant *r)
{
    for (int32_t row = 0; row < windows->rows; row++)
        for (int32_t col = 0; col < windows->cols; col++)
            multiply_one(tile, windows->x + row * windows->x_next + col * tile->x_step,
                         windows->out + row * windows->out_next + col * tile->out_step, r);
}

MULTIPLY(1, 1) MULTIPLY(2, 1) MULTIPLY(3, 1) MULTIPLY(4, 1) MULTIPLY(5, 1) MULTIPLY(6, 1)
MULTIPLY(7, 1) MULTIPLY(8, 1) MULTIPLY(9, 1) MULTIPLY(10, 1) MULTIPLY(11, 1) MULTIPLY(12, 1)
MULTIPLY(13, 1) MULTIPLY(14, 1) MULTIPLY(15, 1) MULTIPLY(16, 1)
MULTIPLY(1, 2) MULTIPLY(2, 2) MULTIPLY(3, 2) MULTIPLY(4, 2) MULTIPLY(5, 2) MULTIPLY(6, 2)
MULTIPLY(7, 2) MULTIPLY(8, 2) MULTIPLY(9, 2) MULTIPLY(10, 2) MULTIPLY(11, 2) MULTIPLY(12, 2)
MULTIPLY(13, 2) MULTIPLY(14, 2)

static void multiply(const conv_tile *tile, const conv_windows *windows, const requant *r)
{
    static const multiply_fn by_height[WINDOWS][TILES] = {
        {multiply1x1, multiply1x2},   {multiply2x1, multiply2x2},   {multiply3x1, multiply3x2},
        {multiply4x1, multiply4x2},   {multiply5x1, multiply5x2},   {multiply6x1, multiply6x2},
        {multiply7x1, multiply7x2},   {multiply8x1, multiply8x2},   {multiply9x1, multiply9x2},
        {multiply10x1, multiply10x2}, {multiply11x1, multiply11x2}, {multiply12x1, multiply12x2},
        {multiply13x1, multiply13x2}, {multiply14x1, multiply14x2}, {multiply15x1},
        {multiply16x1},
    };
    if (has_large_multipliers(tile))
        multiply_each(tile, windows, r);
    else
        multiply_rows(by_height, tile, windows, r);
}

/* One window by `tiles` tiles (a constant of 1, 2, 4 or 8). Few tiles take several steps at a time,
 * so that four sums or more are in flight. */
INLINE void multiply_one_block(const int tiles, const conv_tile *tile, int first,
                               const uint8_t *x, int8_t *out, const requant *r)
{
    const int chains = tiles < 4 ? 4 / tiles : 1;
    const ptrdiff_t tile_bytes = tile->tile_bytes;
    const int8_t *w = tile->weights + first * tile_bytes;
    __m512i acc[ONE_TILES][4];
    UNROLL for (int i = 0; i < tiles; i++) {
        acc[i][0] = start_of(tile, first + i);
        UNROLL for (int j = 1; j < chains; j++) acc[i][j] = _mm512_setzero_si512();
    }
    for (int32_t row = 0; row < tile->rows; row++) {
        const uint8_t *run = x + row * tile->row_step;
        for (int32_t col = 0; col < tile->cols; col++, run += tile->col_step) {
            const uint8_t *at = run;
            int32_t k = tile->steps;
            for (; k >= chains; k -= chains) {
                UNROLL for (int j = 0; j < chains; j++) {
                    const __m512i v = broadcast4(at + j * TILE_K);
                    UNROLL for (int i = 0; i < tiles; i++)
                        acc[i][j] = dot4_at(acc[i][j], v, w + i * tile_bytes + j * 64);
                }
                at += chains * TILE_K;
                w += chains * TILE_N * TILE_K;
            }
            for (; chains > 1 && k > 0; k--) {
                UNROLL for (int i = 0; i < tiles; i++)
                    acc[i][0] = dot4_at(acc[i][0], broadcast4(at), w + i * tile_bytes);
                at += TILE_K;
                w += TILE_N * TILE_K;
            }
        }
    }
    UNROLL for (int i = 0; i < tiles; i++)
        UNROLL for (int j = 1; j < chains; j++)
            acc[i][0] = _mm512_add_epi32(acc[i][0], acc[i][j]);
    UNROLL for (int i = 0; i < tiles; i += 4) {
        __m512i y[4];
        UNROLL for (int j = 0; j < 4; j++)
            y[j] = i + j < tiles ? ek_requantize_top(acc[i + j][0],
                                                     multiplier_of(tile, first + i + j), r)
                                 : y[0];
        const __mmask64 mask = tile->stored[(first + i) / 4] >> (first + i) % 4 * TILE_N;
        _mm512_mask_storeu_epi8(out + (first + i) * TILE_N, mask,
                                ek_pack64(y[0], y[1], y[2], y[3], r));
    }
}

static __attribute__((noinline)) void multiply_one(const conv_tile *tile, const uint8_t *x,
                                                   int8_t *out, const requant *r)
{
    int i = 0;
    if (tile->count == ONE_TILES) {
        multiply_one_block(8, tile, 0, x, out, r);
        return;
    }
    for (; tile->count - i >= 4; i += 4)
        multiply_one_block(4, tile, i, x, out, r);
    for (; tile->count - i >= 2; i += 2)
        multiply_one_block(2, tile, i, x, out, r);
    if (i < tile->count)
        multiply_one_block(1, tile, i, x, out, r);
}

/* Bytes [first, first + 4) of each channel's row of weights, those below `end`; zero behind it.
 * `tile` is [steps][16][4]; the vector behind the one with byte `first` exists where it is
 * needed. */
INLINE __m512i bytes_of(const int8_t *tile, int32_t first, int32_t end)
{
    const int32_t shift = first % TILE_K * 8;
    const int8_t *at = tile + (ptrdiff_t)(first / TILE_K) * TILE_N * TILE_K;
    __m512i v = _mm512_srl_epi32(load64(at), _mm_cvtsi32_si128(shift));
    const int32_t count = ek_min(end - first, TILE_K);
    if (first % TILE_K + count > TILE_K)
        v = _mm512_or_si512(v, _mm512_sll_epi32(load64(at + TILE_N * TILE_K),
                                                _mm_cvtsi32_si128(32 - shift)));
    return _mm512_and_si512(v, _mm512_set1_epi32((int32_t)(0xFFFFFFFFu >> (32 - 8 * count))));
}

static void spread_tile(const int8_t *from, int8_t *to, int32_t runs, int32_t run)
{
    for (int32_t i = 0; i < runs; i++)
        for (int32_t k = 0; k < run; k += TILE_K, to += TILE_N * TILE_K)
            _mm512_storeu_si512(to, bytes_of(from, i * run + k, (i + 1) * run));
}

int ek_conv2d_avx512vnni_supports(const void *params)
{
    return conv_supports(params);
}

size_t ek_conv2d_avx512vnni_scratch(const void *params)
{
    return conv_scratch(params);
}

void ek_conv2d_avx512vnni(const void *params, const void *const in[], void *out, void *scratch,
                          const ek_range *range)
{
    const ek_conv_params *p = params;
    const requant r = ek_requant_avx512vnni_init(&p->clamp);
    conv_range(p, in[0], out, scratch, range, &r);
}
