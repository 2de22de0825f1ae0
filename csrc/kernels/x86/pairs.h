/* SPDX-License-Identifier: Apache-2.0
 *
 * Products of pairs of int16 with AVX2 or SSE4.1, which the kernels that multiply by pmaddwd share.
 * The including file has included vector.h.
 */
#ifndef EK_PAIRS_H
#define EK_PAIRS_H

#ifdef EK_VECTOR_AVX2

/* Of each four bytes the first two (half 0) or the last two (1), as int16. */
static inline vint v_half(const int8_t *w, const int half)
{
    const vint order = _mm256_set_epi32(0x0F0D0E0C, 0x0B090A08, 0x07050604, 0x03010200, 0x0F0D0E0C,
                                        0x0B090A08, 0x07050604, 0x03010200);
    const vint mixed = _mm256_shuffle_epi8(_mm256_loadu_si256((const void *)w), order);
    return _mm256_srai_epi16(half == 0 ? _mm256_slli_epi16(mixed, 8) : mixed, 8);
}

/* acc + w * x. The addition is spelled in assembly because GCC otherwise moves all products of a
 * step ahead of all sums, runs out of registers and spills the accumulators. */
static inline vint multiply_add(vint acc, vint w, vint x)
{
    const vint products = _mm256_madd_epi16(w, x);
    __asm__ volatile("vpaddd %1, %0, %0" : "+x"(acc) : "x"(products));
    return acc;
}

#else

static inline vint v_half(const int8_t *w, const int half)
{
    const vint order = _mm_set_epi32(0x0F0D0E0C, 0x0B090A08, 0x07050604, 0x03010200);
    const vint mixed = _mm_shuffle_epi8(_mm_loadu_si128((const void *)w), order);
    return _mm_srai_epi16(half == 0 ? _mm_slli_epi16(mixed, 8) : mixed, 8);
}

static inline vint multiply_add(vint acc, vint w, vint x)
{
    const vint products = _mm_madd_epi16(w, x);
    __asm__ volatile("paddd %1, %0" : "+x"(acc) : "x"(products));
    return acc;
}

#endif

#endif /* EK_PAIRS_H */
