/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolution and dense layers with AVX-VNNI: two vectors are four steps of depth for 16 channels,
 * just as the weights are packed. Six windows by 16 channels are summed in 12 registers; two more
 * hold weights and one the four activations that all lanes share.
 */
#include "vnni_avx2.h"

#define WINDOWS 6
#define WINDOWS_OF(tiles) WINDOWS
#define TILES 1
#define ONE_TILES 4
#define HALVES 2 /* vectors of a tile */
#define LANES 8

#include "conv2d_vnni.h"

INLINE __m256i start_of(const conv_tile *tile, int vector)
{
    return load32(tile->start + vector * LANES);
}

INLINE __m256i requantize(__m256i acc, const conv_tile *tile, int vector, const requant *r)
{
    return ek_requantize_avx2(acc, _mm256_loadu_ps(tile->multiplier + vector * LANES), r);
}

/* Those of 16 bytes whose bits are set. */
INLINE void store_tile(int8_t *out, __m128i v, uint32_t mask)
{
    int8_t bytes[TILE_N];
    if (mask == 0xFFFF) {
        _mm_storeu_si128((__m128i *)(void *)out, v);
        return;
    }
    if (mask == 0xFF) { /* many networks have multiples of eight channels */
        _mm_storel_epi64((__m128i *)(void *)out, v);
        return;
    }
    _mm_storeu_si128((__m128i *)(void *)bytes, v);
    for (; mask != 0; mask &= mask - 1) {
        const int i = __builtin_ctz(mask);
        out[i] = bytes[i];
    }
}

/* Stores `windows` (a constant) rows of a tile. */
INLINE void store_rows(const int windows, const conv_tile *tile, __m256i acc[][HALVES], int8_t *out,
                       const requant *r)
{
    const uint32_t mask = (uint32_t)tile->stored[0] & 0xFFFF;
    UNROLL for (int i = 0; i < windows; i += 2) {
        const int next = i + 1 < windows ? i + 1 : i;
        const __m256i v = ek_pack32_avx2(
            requantize(acc[i][0], tile, 0, r), requantize(acc[i][1], tile, 1, r),
            requantize(acc[next][0], tile, 0, r), requantize(acc[next][1], tile, 1, r), r);
        store_tile(out, _mm256_castsi256_si128(v), mask);
        if (next > i)
            store_tile(out + tile->out_step, _mm256_extracti128_si256(v, 1), mask);
        out += 2 * tile->out_step;
    }
}

/* `windows` windows (a constant of 1 to 6) by one tile. */
INLINE void multiply_block(const int windows, const int tiles, const conv_tile *tile,
                           const uint8_t *x, int8_t *out, const int8_t *ahead, ptrdiff_t pace,
                           const requant *r)
{
    const ptrdiff_t x_step = tile->x_step;
    const int8_t *w = tile->weights;
    __m256i acc[WINDOWS][HALVES];
    (void)tiles;
    (void)ahead; /* a fetch in each step, which is six cycles here, costs 1 to 4 % on Zen 4 */
    (void)pace;
    UNROLL for (int i = 0; i < windows; i++) {
        acc[i][0] = start_of(tile, 0);
        acc[i][1] = start_of(tile, 1);
    }
    for (int32_t row = 0; row < tile->rows; row++) {
        const uint8_t *run = x + row * tile->row_step;
        for (int32_t col = 0; col < tile->cols; col++, run += tile->col_step) {
            /* Every third window has a pointer; two more are reached by an index. */
            const uint8_t *third[2] = {run, run + 3 * x_step};
            for (int32_t k = tile->steps; k > 0; k--) {
                const __m256i w0 = load32(w), w1 = load32(w + 32);
                UNROLL for (int i = 0; i < windows; i++) {
                    const __m256i v = broadcast4(third[i / 3] + i % 3 * x_step);
                    acc[i][0] = dot4(acc[i][0], v, w0);
                    acc[i][1] = dot4(acc[i][1], v, w1);
                }
                third[0] += TILE_K;
                third[1] += TILE_K;
                w += TILE_N * TILE_K;
            }
        }
    }
    /* What the stores need is loaded from here on: kept in registers it would push sums out. */
    __asm__("" : "+r"(r), "+r"(tile));
    store_rows(windows, tile, acc, out, r);
}

MULTIPLY(1, 1) MULTIPLY(2, 1) MULTIPLY(3, 1) MULTIPLY(4, 1) MULTIPLY(5, 1) MULTIPLY(6, 1)

static void multiply(const conv_tile *tile, const conv_windows *windows, const requant *r)
{
    static const multiply_fn by_height[WINDOWS][TILES] = {
        {multiply1x1}, {multiply2x1}, {multiply3x1}, {multiply4x1}, {multiply5x1}, {multiply6x1},
    };
    multiply_rows(by_height, tile, windows, r);
}

/* One window by `tiles` tiles (a constant of 1, 2 or 4). Few tiles take several steps at a time, so
 * that eight sums are in flight. */
INLINE void multiply_one_block(const int tiles, const conv_tile *tile, int first,
                               const uint8_t *x, int8_t *out, const requant *r)
{
    const int chains = ONE_TILES / tiles, vectors = tiles * HALVES;
    const int8_t *w = tile->weights + first * tile->tile_bytes;
    __m256i acc[ONE_TILES * HALVES][ONE_TILES];
    UNROLL for (int i = 0; i < vectors; i++) {
        acc[i][0] = start_of(tile, first * HALVES + i);
        UNROLL for (int j = 1; j < chains; j++) acc[i][j] = _mm256_setzero_si256();
    }
    for (int32_t row = 0; row < tile->rows; row++) {
        const uint8_t *run = x + row * tile->row_step;
        for (int32_t col = 0; col < tile->cols; col++, run += tile->col_step) {
            const uint8_t *at = run;
            int32_t k = tile->steps;
            for (; k >= chains; k -= chains) {
                UNROLL for (int j = 0; j < chains; j++) {
                    const __m256i v = broadcast4(at + j * TILE_K);
                    UNROLL for (int i = 0; i < vectors; i++)
                        acc[i][j] = dot4_at(acc[i][j], v,
                                            w + i / HALVES * tile->tile_bytes
                                                + (j * HALVES + i % HALVES) * 32);
                }
                at += chains * TILE_K;
                w += chains * TILE_N * TILE_K;
            }
            for (; chains > 1 && k > 0; k--) {
                UNROLL for (int i = 0; i < vectors; i++)
                    acc[i][0] = dot4_at(acc[i][0], broadcast4(at),
                                        w + i / HALVES * tile->tile_bytes + i % HALVES * 32);
                at += TILE_K;
                w += TILE_N * TILE_K;
            }
        }
    }
    UNROLL for (int i = 0; i < vectors; i++)
        UNROLL for (int j = 1; j < chains; j++)
            acc[i][0] = _mm256_add_epi32(acc[i][0], acc[i][j]);
    UNROLL for (int i = 0; i < tiles; i++) {
        const int at = (first + i) * HALVES;
        const __m256i y0 = requantize(acc[i * HALVES][0], tile, at, r);
        const __m256i y1 = requantize(acc[i * HALVES + 1][0], tile, at + 1, r);
        store_tile(out + (first + i) * TILE_N,
                   _mm256_castsi256_si128(ek_pack32_avx2(y0, y1, y0, y1, r)),
                   (uint32_t)(tile->stored[0] >> (first + i) * TILE_N) & 0xFFFF);
    }
}

static __attribute__((noinline)) void multiply_one(const conv_tile *tile, const uint8_t *x,
                                                   int8_t *out, const requant *r)
{
    int i = 0;
    for (; tile->count - i >= 4; i += 4)
        multiply_one_block(4, tile, i, x, out, r);
    for (; tile->count - i >= 2; i += 2)
        multiply_one_block(2, tile, i, x, out, r);
    if (i < tile->count)
        multiply_one_block(1, tile, i, x, out, r);
}

/* Bytes [first, first + 4) of the rows of weights of eight channels, those below `end`; zero behind
 * it. `half` is theirs of [steps][16][4]; the step behind the one with byte `first` exists where it
 * is needed. */
INLINE __m256i bytes_of(const int8_t *half, int32_t first, int32_t end)
{
    const int32_t shift = first % TILE_K * 8;
    const int8_t *at = half + (ptrdiff_t)(first / TILE_K) * TILE_N * TILE_K;
    __m256i v = _mm256_srl_epi32(load32(at), _mm_cvtsi32_si128(shift));
    const int32_t count = ek_min(end - first, TILE_K);
    if (first % TILE_K + count > TILE_K)
        v = _mm256_or_si256(v, _mm256_sll_epi32(load32(at + TILE_N * TILE_K),
                                                _mm_cvtsi32_si128(32 - shift)));
    return _mm256_and_si256(v, _mm256_set1_epi32((int32_t)(0xFFFFFFFFu >> (32 - 8 * count))));
}

static void spread_tile(const int8_t *from, int8_t *to, int32_t runs, int32_t run)
{
    for (int32_t i = 0; i < runs; i++)
        for (int32_t k = 0; k < run; k += TILE_K, to += TILE_N * TILE_K) {
            store32(to, bytes_of(from, i * run + k, (i + 1) * run));
            store32(to + 32, bytes_of(from + 32, i * run + k, (i + 1) * run));
        }
}

int ek_conv2d_avxvnni_supports(const void *params)
{
    return conv_supports(params);
}

size_t ek_conv2d_avxvnni_scratch(const void *params)
{
    return conv_scratch(params);
}

void ek_conv2d_avxvnni(const void *params, const void *const in[], void *out, void *scratch,
                       const ek_range *range)
{
    const ek_conv_params *p = params;
    const requant r = ek_requant_avx2_init(&p->clamp);
    conv_range(p, in[0], out, scratch, range, &r);
}
