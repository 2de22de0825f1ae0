/* SPDX-License-Identifier: Apache-2.0
 *
 * Winograd's convolution with vpdpwssd, which adds pairs of products of int16: 7 tiles by 32
 * channels are summed in 14 registers. More would fit, but not their 36 products in a first level
 * cache.
 */
#define EK_VECTOR_AVX512VNNI
#include "vector.h"

#define HEIGHT 7
#define X_OFFSET 128 /* in the sums that the kernels of this set start from */

/* vpdpbusd multiplies twice as many. */
#define DIRECT_TAPS 9

/* The first (half 0) or the last two (1) of each four bytes, as int16. */
static inline vint v_half(const int8_t *w, const int half)
{
    const vint mixed = _mm512_shuffle_epi8(
        _mm512_loadu_si512(w), _mm512_set4_epi32(0x0F0D0E0C, 0x0B090A08, 0x07050604, 0x03010200));
    return _mm512_srai_epi16(half == 0 ? _mm512_slli_epi16(mixed, 8) : mixed, 8);
}

/* In assembly, because GCC otherwise moves accumulators around the instruction and spills them. */
static inline vint multiply_add(vint acc, vint x, vint w)
{
    __asm__("vpdpwssd %2, %1, %0" : "+v"(acc) : "v"(x), "v"(w));
    return acc;
}

/* In assembly, because clang takes the instruction for floats, of which Zen 4 starts half as many
 * in a cycle. */
static inline vint broadcast_pair(const int16_t *from)
{
    typedef int16_t pair[2];
    vint v;
    __asm__("vpbroadcastd %1, %0" : "=v"(v) : "m"(*(const pair *)(const void *)from));
    return v;
}

#include "winograd.h"
