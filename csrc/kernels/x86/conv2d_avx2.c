/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolution and dense layers as a matrix product of int16, two products per 32-bit lane.
 *
 * Widening first makes every product pair exact: 2 * 128 * 128 fits a lane, which the 8-bit
 * multiply-add does not promise. Where many windows share weights, these are widened in scratch
 * (conv2d_wide.h). Else they are widened on the way to the registers: four weights of a channel
 * fill two lanes, so a vector holds four channels, each in two halves that are added at the end.
 */
#define EK_VECTOR_AVX2
#include "vector.h"

#include "pairs.h"

#define BLOCK 6
#define COPIES 1
#define widen_copies16 widen16
#define INLINE static inline __attribute__((always_inline))

INLINE void widen16(const int8_t *from, int16_t *to)
{
    const __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)from);
    _mm256_storeu_si256((__m256i *)(void *)to, _mm256_cvtepi8_epi16(bytes));
}

INLINE void fill16(int32_t value, int16_t *to)
{
    _mm256_storeu_si256((__m256i *)(void *)to, _mm256_set1_epi16((short)value));
}

INLINE __m256i broadcast_copies(const int16_t *x)
{
    int32_t pair;
    memcpy(&pair, x, sizeof pair);
    return _mm256_set1_epi32(pair);
}

INLINE void store_halves(__m256i bytes, int8_t *a, int8_t *b)
{
    _mm_storeu_si128((__m128i *)(void *)a, _mm256_castsi256_si128(bytes));
    _mm_storeu_si128((__m128i *)(void *)b, _mm256_extracti128_si256(bytes, 1));
}

struct conv_tile;
static void multiply(const struct conv_tile *tile, const int16_t *x, int8_t *const *out, int32_t o,
                     int32_t windows, const requant *r);

#include "conv2d_wide.h"

#include "conv2d_panel.h"

INLINE __m256i load_weights(const int8_t *w)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)w));
}

INLINE __m256i load_start(const int32_t *start)
{
    return _mm256_cvtepu32_epi64(_mm_loadu_si128((const __m128i *)(const void *)start));
}

INLINE __m256i broadcast4(const int16_t *x)
{
    return _mm256_broadcastq_epi64(_mm_loadl_epi64((const __m128i *)(const void *)x));
}

/* Adds the halves. With a of channels 0-3 and b of 4-7 the lanes are 0 1 4 5 2 3 6 7. */
INLINE __m256i join(__m256i a, __m256i b)
{
    return _mm256_hadd_epi32(a, b);
}

#define LANE_ORDER _MM_SHUFFLE(3, 1, 2, 0) /* of pairs, from 0..7 to join's order and back */

/* Four windows of eight channels in join's order as int8: windows a and b in the low half of the
 * result, c and d in the high one. */
INLINE __m256i pack(__m256i a, __m256i b, __m256i c, __m256i d, const requant *r)
{
    const __m256i ab = _mm256_add_epi16(_mm256_packs_epi32(a, b), r->zero);
    const __m256i cd = _mm256_add_epi16(_mm256_packs_epi32(c, d), r->zero);
    const __m256i bytes = _mm256_packs_epi16(ab, cd);
    const __m128i low = _mm256_castsi256_si128(bytes), high = _mm256_extracti128_si256(bytes, 1);
    return _mm256_set_m128i(_mm_unpackhi_epi16(low, high), _mm_unpacklo_epi16(low, high));
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

/* Stores up to four windows. */
INLINE void store_windows(const int windows, const conv_tile *tile, int32_t lane, __m256i values,
                          int8_t *const *out, int32_t o)
{
    const __m128i ab = _mm256_castsi256_si128(values), cd = _mm256_extracti128_si256(values, 1);
    store8(tile, lane, ab, out[0] + o);
    if (windows > 1)
        store8(tile, lane, _mm_unpackhi_epi64(ab, ab), out[1] + o);
    if (windows > 2)
        store8(tile, lane, cd, out[2] + o);
    if (windows > 3)
        store8(tile, lane, _mm_unpackhi_epi64(cd, cd), out[3] + o);
}

/* Eight channels from lane `lane` on of `windows` (a constant of 2 to 6) windows: twelve
 * accumulators, two vectors of weights and two for activations and products fill the sixteen
 * registers. */
INLINE void multiply8(const int windows, const conv_tile *tile, int32_t lane, const int16_t *x,
                      int8_t *const *out, int32_t o, const requant *r)
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
        v = broadcast4(x + row);
        a1 = multiply_add(a1, wa, v);
        b1 = multiply_add(b1, wb, v);
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

    /* Ends the accumulators' life in the loop: what follows must not make GCC spill them there. */
    __asm__ volatile(""
                     : "+x"(a0), "+x"(b0), "+x"(a1), "+x"(b1), "+x"(a2), "+x"(b2), "+x"(a3),
                       "+x"(b3), "+x"(a4), "+x"(b4), "+x"(a5), "+x"(b5));
    const __m256 m = _mm256_castpd_ps(_mm256_permute4x64_pd(
        _mm256_castps_pd(_mm256_loadu_ps(tile->multiplier + lane)), LANE_ORDER));
    const __m256i y0 = ek_requantize_avx2(join(a0, b0), m, r);
    const __m256i y1 = ek_requantize_avx2(join(a1, b1), m, r);
    const __m256i y2 = windows > 2 ? ek_requantize_avx2(join(a2, b2), m, r) : y0;
    const __m256i y3 = windows > 3 ? ek_requantize_avx2(join(a3, b3), m, r) : y0;
    store_windows(windows, tile, lane, pack(y0, y1, y2, y3, r), out, o);
    if (windows > 4) {
        const __m256i y4 = ek_requantize_avx2(join(a4, b4), m, r);
        const __m256i y5 = windows > 5 ? ek_requantize_avx2(join(a5, b5), m, r) : y4;
        store_windows(windows - 4, tile, lane, pack(y4, y5, y4, y5, r), out + 4, o);
    }
}

/* All sixteen channels of one window, for layers that have no more. */
static __attribute__((noinline)) void multiply16(const conv_tile *tile, const int16_t *x,
                                                 int8_t *out, const requant *r)
{
    const int8_t *w = tile->weights;
    const int8_t *w_end = w + (ptrdiff_t)tile->steps * TILE_N * TILE_K;
    __m256i a = load_start(tile->start), b = load_start(tile->start + 4);
    __m256i c = load_start(tile->start + 8), d = load_start(tile->start + 12);
    do {
        const __m256i v = broadcast4(x);
        a = multiply_add(a, load_weights(w), v);
        b = multiply_add(b, load_weights(w + 16), v);
        c = multiply_add(c, load_weights(w + 32), v);
        d = multiply_add(d, load_weights(w + 48), v);
        x += TILE_K;
        w += TILE_N * TILE_K;
    } while (w != w_end);

    const __m256i ab = _mm256_permute4x64_epi64(join(a, b), LANE_ORDER);
    const __m256i cd = _mm256_permute4x64_epi64(join(c, d), LANE_ORDER);
    const __m256i yab = ek_requantize_avx2(ab, _mm256_loadu_ps(tile->multiplier), r);
    const __m256i ycd = ek_requantize_avx2(cd, _mm256_loadu_ps(tile->multiplier + 8), r);
    const __m128i values = _mm256_castsi256_si128(ek_pack32_avx2(yab, ycd, yab, ycd, r));
    if (tile->first == 0 && tile->end == TILE_N) {
        _mm_storeu_si128((__m128i *)(void *)out, values);
    } else {
        int8_t buffer[TILE_N];
        _mm_storeu_si128((__m128i *)(void *)buffer, values);
        memcpy(out + tile->first, buffer + tile->first, (size_t)(tile->end - tile->first));
    }
}

typedef void (*multiply_fn)(const conv_tile *tile, int32_t lane, const int16_t *x,
                            int8_t *const *out, int32_t o, const requant *r);

/* Kept out of line: in a larger function the registers do not suffice. Aligned as multiply_wide. */
#define MULTIPLY8(n)                                                                            \
    static __attribute__((noinline, aligned(64))) void multiply8x##n(                           \
        const conv_tile *tile, int32_t lane, const int16_t *x, int8_t *const *out, int32_t o,   \
        const requant *r)                                                                       \
    {                                                                                           \
        multiply8(n, tile, lane, x, out, o, r);                                                 \
    }
MULTIPLY8(2)
MULTIPLY8(3)
MULTIPLY8(4)
MULTIPLY8(5)
MULTIPLY8(6)
#undef MULTIPLY8

static void multiply(const conv_tile *tile, const int16_t *x, int8_t *const *out, int32_t o,
                     int32_t windows, const requant *r)
{
    static const multiply_fn by_windows[BLOCK - 1] = {multiply8x2, multiply8x3, multiply8x4,
                                                      multiply8x5, multiply8x6};
    if (windows == 1) {
        multiply16(tile, x, out[0] + o, r);
        return;
    }
    for (int32_t lane = tile->first / 8 * 8; lane < tile->end; lane += 8)
        by_windows[windows - 2](tile, lane, x, out, o, r);
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
