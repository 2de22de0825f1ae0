/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolution and dense layers as a matrix product of int16, two products per 32-bit lane: the
 * 128-bit form of conv2d_avx2.c. A vector holds four channels, or two in two halves each.
 */
#include "vector.h"

#include "pairs.h"

#define BLOCK 6
#define COPIES 2 /* a copy of a pair beside it makes up for a broadcast of 32 bits */
#define broadcast_copies broadcast4
#define INLINE static inline __attribute__((always_inline))

INLINE void widen16(const int8_t *from, int16_t *to)
{
    const __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)from);
    _mm_storeu_si128((__m128i *)(void *)to, _mm_cvtepi8_epi16(bytes));
    _mm_storeu_si128((__m128i *)(void *)(to + 8), _mm_cvtepi8_epi16(_mm_srli_si128(bytes, 8)));
}

/* Sixteen values, with copies. */
INLINE void widen_copies16(const int8_t *from, int16_t *to)
{
    const __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)from);
    const __m128i low = _mm_unpacklo_epi16(bytes, bytes), high = _mm_unpackhi_epi16(bytes, bytes);
    _mm_storeu_si128((__m128i *)(void *)to, _mm_cvtepi8_epi16(low));
    _mm_storeu_si128((__m128i *)(void *)(to + 8), _mm_cvtepi8_epi16(_mm_srli_si128(low, 8)));
    _mm_storeu_si128((__m128i *)(void *)(to + 16), _mm_cvtepi8_epi16(high));
    _mm_storeu_si128((__m128i *)(void *)(to + 24), _mm_cvtepi8_epi16(_mm_srli_si128(high, 8)));
}

/* Makes copies of the pairs of `count` values, a multiple of 4, and of up to four values more. */
INLINE void copy_pairs(const int16_t *from, int32_t count, int16_t *to)
{
    for (int32_t i = 0; i < count; i += 8) {
        const __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(from + i));
        _mm_storeu_si128((__m128i *)(void *)(to + 2 * i), _mm_unpacklo_epi32(v, v));
        _mm_storeu_si128((__m128i *)(void *)(to + 2 * i + 8), _mm_unpackhi_epi32(v, v));
    }
}

INLINE void fill16(int32_t value, int16_t *to)
{
    _mm_storeu_si128((__m128i *)(void *)to, _mm_set1_epi16((short)value));
    _mm_storeu_si128((__m128i *)(void *)(to + 8), _mm_set1_epi16((short)value));
}

INLINE __m128i load8(const void *from)
{
    return _mm_loadl_epi64((const __m128i *)from);
}

/* In assembly because clang makes two instructions of the intrinsic. */
INLINE __m128i broadcast4(const int16_t *x)
{
    typedef int16_t four[4];
    __m128i v;
    __asm__("movddup %1, %0" : "=x"(v) : "m"(*(const four *)(const void *)x));
    return v;
}

/* As floats for the reason given at v_store_quarters. */
INLINE void store_halves(__m128i bytes, int8_t *a, int8_t *b)
{
    _mm_storel_epi64((__m128i *)(void *)a, bytes);
    _mm_storeh_pi((__m64 *)(void *)b, _mm_castsi128_ps(bytes));
}

struct conv_tile;
static void multiply(const struct conv_tile *tile, const int16_t *x, int8_t *const *out, int32_t o,
                     int32_t windows, const requant *r);

#include "conv2d_wide.h"

#include "conv2d_panel.h"

/* Sums of four channels over `windows` (a constant of 1 to 6) windows: twelve accumulators, two
 * vectors of weights and two for activations and products fill the sixteen registers. */
INLINE void accumulate(const int windows, const conv_tile *tile, int32_t lane, const int16_t *x,
                       __m128i *sums)
{
    const int8_t *w = tile->weights + lane * TILE_K;
    const int8_t *w_end = w + (ptrdiff_t)tile->steps * TILE_N * TILE_K;
    const ptrdiff_t row = tile->row;
    const __m128i low = _mm_cvtepu32_epi64(load8(tile->start + lane));
    const __m128i high = _mm_cvtepu32_epi64(load8(tile->start + lane + 2));
    __m128i a0 = low, b0 = high, a1 = low, b1 = high, a2 = low, b2 = high;
    __m128i a3 = low, b3 = high, a4 = low, b4 = high, a5 = low, b5 = high;
    const int16_t *x3 = x + 3 * row;

    do {
        const __m128i wa = _mm_cvtepi8_epi16(load8(w)), wb = _mm_cvtepi8_epi16(load8(w + 8));
        __m128i v = broadcast4(x);
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

#define STORE(i)                                \
    if (windows > i)                            \
        sums[i] = _mm_hadd_epi32(a##i, b##i);
    STORE(0)
    STORE(1)
    STORE(2)
    STORE(3)
    STORE(4)
    STORE(5)
#undef STORE
}

typedef void (*accumulate_fn)(const conv_tile *tile, int32_t lane, const int16_t *x, __m128i *sums);

/* Kept out of line: in a larger function the registers do not suffice. */
#define ACCUMULATE(n)                                                                    \
    static __attribute__((noinline)) void accumulate##n(const conv_tile *tile, int32_t lane, \
                                                        const int16_t *x, __m128i *sums) \
    {                                                                                    \
        accumulate(n, tile, lane, x, sums);                                              \
    }
ACCUMULATE(1)
ACCUMULATE(2)
ACCUMULATE(3)
ACCUMULATE(4)
ACCUMULATE(5)
ACCUMULATE(6)
#undef ACCUMULATE

/* Stores four channels of a tile from lane `lane` on, those that are in the range. */
INLINE void store4(const conv_tile *tile, int32_t lane, __m128i values, int8_t *out)
{
    const int32_t packed = _mm_cvtsi128_si32(values);
    if (tile->first <= lane && lane + 4 <= tile->end) {
        memcpy(out + lane, &packed, 4);
    } else {
        int8_t buffer[4];
        memcpy(buffer, &packed, 4);
        for (int32_t i = ek_max(lane, tile->first); i < ek_min(lane + 4, tile->end); i++)
            out[i] = buffer[i - lane];
    }
}

static void multiply(const conv_tile *tile, const int16_t *x, int8_t *const *out, int32_t o,
                     int32_t windows, const requant *r)
{
    static const accumulate_fn by_windows[BLOCK] = {accumulate1, accumulate2, accumulate3,
                                                    accumulate4, accumulate5, accumulate6};
    const accumulate_fn run = by_windows[windows - 1];
    __m128i sums[BLOCK];

    for (int32_t lane = tile->first / 4 * 4; lane < tile->end; lane += 4) {
        const __m128 m = _mm_loadu_ps(tile->multiplier + lane);
        run(tile, lane, x, sums);
        for (int32_t i = 0; i < windows; i++) {
            const __m128i y = ek_requantize_sse41(sums[i], m, r);
            store4(tile, lane, ek_pack16_sse41(y, y, y, y, r), out[i] + o);
        }
    }
}

int ek_conv2d_sse41_supports(const void *params)
{
    return conv_supports(params);
}

size_t ek_conv2d_sse41_scratch(const void *params)
{
    return conv_scratch(params);
}

void ek_conv2d_sse41(const void *params, const void *const in[], void *out, void *scratch,
                     const ek_range *range)
{
    const ek_conv_params *p = params;
    const requant r = ek_requant_sse41_init(&p->clamp);
    conv_range(p, in[0], out, scratch, range, &r);
}
