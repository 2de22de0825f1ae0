/* SPDX-License-Identifier: Apache-2.0
 *
 * Winograd's convolution with pmaddwd, which conv2d_avx2 has for its products, too: 6 tiles by 16
 * channels are summed in twelve registers.
 */
#define EK_VECTOR_AVX2
#include "vector.h"

#define HEIGHT 6
#define X_OFFSET 0

/* conv2d_avx2 multiplies as many. */
#define DIRECT_TAPS 18

/* The first (half 0) or the last two (1) of each four bytes, as int16. */
static inline vint v_half(const int8_t *w, const int half)
{
    const vint order = _mm256_set_epi32(0x0F0D0E0C, 0x0B090A08, 0x07050604, 0x03010200, 0x0F0D0E0C,
                                        0x0B090A08, 0x07050604, 0x03010200);
    const vint mixed = _mm256_shuffle_epi8(_mm256_loadu_si256((const void *)w), order);
    return _mm256_srai_epi16(half == 0 ? _mm256_slli_epi16(mixed, 8) : mixed, 8);
}

/* The addition is spelled in assembly because GCC otherwise moves all products of a step ahead of
 * all sums, runs out of registers and spills the accumulators. */
static inline vint multiply_add(vint acc, vint x, vint w)
{
    const vint products = _mm256_madd_epi16(x, w);
    __asm__ volatile("vpaddd %1, %0, %0" : "+x"(acc) : "x"(products));
    return acc;
}

static inline vint broadcast_pair(const int16_t *from)
{
    typedef int16_t pair[2];
    vint v;
    __asm__("vpbroadcastd %1, %0" : "=x"(v) : "m"(*(const pair *)(const void *)from));
    return v;
}

#include "winograd.h"
