/* SPDX-License-Identifier: Apache-2.0
 *
 * Winograd's convolution with pmaddwd, which conv2d_sse41 has for its products, too: 6 tiles by 8
 * channels are summed in twelve registers.
 */
#include "vector.h"

#define HEIGHT 6
#define X_OFFSET 0

/* conv2d_sse41 multiplies as many. */
#define DIRECT_TAPS 18

/* The first (half 0) or the last two (1) of each four bytes, as int16. */
static inline vint v_half(const int8_t *w, const int half)
{
    const vint order = _mm_set_epi32(0x0F0D0E0C, 0x0B090A08, 0x07050604, 0x03010200);
    const vint mixed = _mm_shuffle_epi8(_mm_loadu_si128((const void *)w), order);
    return _mm_srai_epi16(half == 0 ? _mm_slli_epi16(mixed, 8) : mixed, 8);
}

/* The addition is spelled in assembly because GCC otherwise moves all products of a step ahead of
 * all sums, runs out of registers and spills the accumulators. */
static inline vint multiply_add(vint acc, vint x, vint w)
{
    const vint products = _mm_madd_epi16(x, w);
    __asm__ volatile("paddd %1, %0" : "+x"(acc) : "x"(products));
    return acc;
}

static inline vint broadcast_pair(const int16_t *from)
{
    int32_t pair;
    memcpy(&pair, from, sizeof pair);
    return _mm_set1_epi32(pair);
}

#include "winograd.h"
