/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolution and dense layers as a matrix product of int16, two products per 32-bit lane.
 *
 * Four weights of a channel fill two lanes, so a vector holds four channels, each in two halves
 * that are added at the end. Widening first makes every product pair exact: 2 * 128 * 128 fits a
 * lane, which the 8-bit multiply-add does not promise.
 */
#include "requant_avx2.h"

typedef ek_requant_avx2 requant;

#define BLOCK 6
#define INLINE static inline __attribute__((always_inline))

INLINE void widen16(const int8_t *from, int16_t *to)
{
    const __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)from);
    _mm256_storeu_si256((__m256i *)(void *)to, _mm256_cvtepi8_epi16(bytes));
}

struct conv_tile;
static void multiply(const struct conv_tile *tile, const int16_t *x, int8_t *const *out, int32_t o,
                     int32_t windows, const requant *r);

#include "conv2d_panel.h"

INLINE __m256i load_weights(const int8_t *w)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)w));
}

INLINE __m256i load_start(const int32_t *start)
{
    return _mm256_cvtepu32_epi64(_mm_loadu_si128((const __m128i *)(const void *)start));
}

/* acc + w * x. The addition is spelled in assembly because GCC otherwise moves all products of a
 * step ahead of all sums, runs out of registers and spills the accumulators. */
INLINE __m256i multiply_add(__m256i acc, __m256i w, __m256i x)
{
    const __m256i products = _mm256_madd_epi16(w, x);
    __asm__ volatile("vpaddd %1, %0, %0" : "+x"(acc) : "x"(products));
    return acc;
}

INLINE __m256i broadcast4(const int16_t *x)
{
    return _mm256_broadcastq_epi64(_mm_loadl_epi64((const __m128i *)(const void *)x));
}

/* Adds the halves of channels 0-3 and 4-7. */
INLINE __m256i join(__m256i a, __m256i b)
{
    return _mm256_permute4x64_epi64(_mm256_hadd_epi32(a, b), 0xD8);
}

/* Stores eight channels of a tile from lane `lane` on, those that are in the range. */
INLINE void store8(const conv_tile *tile, int32_t lane, __m128i values, int8_t *out)
{
    if (tile->first <= lane && lane + 8 <= tile->end) {
        _mm_storel_epi64((__m128i *)(void *)(out + lane), values);
    } else {
        int8_t buffer[16];
        _mm_storeu_si128((__m128i *)(void *)buffer, values);
        for (int32_t i = ek_max(lane, tile->first); i < ek_min(lane + 8, tile->end); i++)
            out[i] = buffer[i - lane];
    }
}

/* Sums of eight channels over `windows` (a constant of 1 to 6) windows: twelve accumulators, two
 * vectors of weights and two for activations and products fill the sixteen registers. `sums` takes
 * channels 0-3 and 4-7 of each window. */
INLINE void accumulate(const int windows, const conv_tile *tile, int32_t lane, const int16_t *x,
                       __m256i *sums)
{
    const int8_t *w = tile->weights + lane * TILE_K;
    const int8_t *w_end = w + (ptrdiff_t)tile->steps * TILE_N * TILE_K;
    const ptrdiff_t row = tile->row;
    const __m256i low = load_start(tile->start + lane), high = load_start(tile->start + lane + 4);
    __m256i a0 = low, b0 = high, a1 = low, b1 = high, a2 = low, b2 = high;
    __m256i a3 = low, b3 = high, a4 = low, b4 = high, a5 = low, b5 = high;
    const int16_t *x3 = x + 3 * row;

    do {
        const __m256i wa = load_weights(w), wb = load_weights(w + 16);
        __m256i v = broadcast4(x);
        a0 = multiply_add(a0, wa, v);
        b0 = multiply_add(b0, wb, v);
        if (windows > 1) {
            v = broadcast4(x + row);
            a1 = multiply_add(a1, wa, v);
            b1 = multiply_add(b1, wb, v);
        }
        if (windows > 2) {
            v = broadcast4(x + 2 * row);
            a2 = multiply_add(a2, wa, v);
            b2 = multiply_add(b2, wb, v);
        }
        if (windows > 3) {
            v = broadcast4(x3);
            a3 = multiply_add(a3, wa, v);
            b3 = multiply_add(b3, wb, v);
        }
        if (windows > 4) {
            v = broadcast4(x3 + row);
            a4 = multiply_add(a4, wa, v);
            b4 = multiply_add(b4, wb, v);
        }
        if (windows > 5) {
            v = broadcast4(x3 + 2 * row);
            a5 = multiply_add(a5, wa, v);
            b5 = multiply_add(b5, wb, v);
        }
        x += TILE_K;
        x3 += TILE_K;
        w += TILE_N * TILE_K;
    } while (w != w_end);

#define STORE(i)               \
    if (windows > i) {         \
        sums[2 * i] = a##i;    \
        sums[2 * i + 1] = b##i; \
    }
    STORE(0)
    STORE(1)
    STORE(2)
    STORE(3)
    STORE(4)
    STORE(5)
#undef STORE
}

typedef void (*accumulate_fn)(const conv_tile *tile, int32_t lane, const int16_t *x, __m256i *sums);

/* Kept out of line: in a larger function the registers do not suffice. */
#define ACCUMULATE(n)                                                                        \
    static __attribute__((noinline)) void accumulate##n(const conv_tile *tile, int32_t lane, \
                                                        const int16_t *x, __m256i *sums)     \
    {                                                                                        \
        accumulate(n, tile, lane, x, sums);                                                  \
    }
ACCUMULATE(1)
ACCUMULATE(2)
ACCUMULATE(3)
ACCUMULATE(4)
ACCUMULATE(5)
ACCUMULATE(6)
#undef ACCUMULATE

static void multiply(const conv_tile *tile, const int16_t *x, int8_t *const *out, int32_t o,
                     int32_t windows, const requant *r)
{
    static const accumulate_fn by_windows[BLOCK] = {accumulate1, accumulate2, accumulate3,
                                                    accumulate4, accumulate5, accumulate6};
    const accumulate_fn run = by_windows[windows - 1];
    __m256i sums[2 * BLOCK];

    for (int32_t lane = tile->first / 8 * 8; lane < tile->end; lane += 8) {
        const __m256 m = _mm256_loadu_ps(tile->multiplier + lane);
        run(tile, lane, x, sums);
        for (int32_t i = 0; i < windows; i++) {
            const __m256i acc = join(sums[2 * i], sums[2 * i + 1]);
            store8(tile, lane, ek_pack8_avx2(ek_requantize_avx2(acc, m, r), r), out[i] + o);
        }
    }
}

int ek_conv2d_avx2_supports(const void *params)
{
    return conv_supports(params);
}

size_t ek_conv2d_avx2_scratch(const void *params)
{
    return conv_scratch(params);
}

void ek_conv2d_avx2(const void *params, const void *const in[], void *out, void *scratch,
                    const ek_range *range)
{
    const ek_conv_params *p = params;
    const requant r = ek_requant_avx2_init(&p->clamp);
    conv_range(p, in[0], out, scratch, range, &r);
}
