/* SPDX-License-Identifier: Apache-2.0
 *
 * Requantization of eight values: requant.h in AVX2. cvtps rounds to nearest even, which ek_open
 * has checked to be the mode.
 */
#ifndef EK_REQUANT_AVX2_H
#define EK_REQUANT_AVX2_H

#include <immintrin.h>

#include "../requant.h"

typedef struct ek_requant_avx2 {
    __m256 lo, hi;
    __m256i zero; /* as 16 bit */
} ek_requant_avx2;

static inline ek_requant_avx2 ek_requant_avx2_init(const ek_clamp *clamp)
{
    const ek_requant scalar = ek_requant_init(clamp);
    ek_requant_avx2 r;
    r.lo = _mm256_set1_ps(scalar.lo);
    r.hi = _mm256_set1_ps(scalar.hi);
    r.zero = _mm256_set1_epi16((short)scalar.zero);
    return r;
}

/* rne(v), clamped, before the zero point is added. max returns its second operand for NaN. */
static inline __m256i ek_round_avx2(__m256 v, const ek_requant_avx2 *r)
{
    return _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(v, r->lo), r->hi));
}

static inline __m256i ek_requantize_avx2(__m256i acc, __m256 multiplier, const ek_requant_avx2 *r)
{
    return ek_round_avx2(_mm256_mul_ps(_mm256_cvtepi32_ps(acc), multiplier), r);
}

/* Eight rounded values as int8 in the low half. */
static inline __m128i ek_pack8_avx2(__m256i a, const ek_requant_avx2 *r)
{
    const __m128i packed =
        _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    const __m128i biased = _mm_add_epi16(packed, _mm256_castsi256_si128(r->zero));
    return _mm_packs_epi16(biased, biased);
}

/* Four times eight rounded values as int8, in order. */
static inline __m256i ek_pack32_avx2(__m256i a, __m256i b, __m256i c, __m256i d,
                                     const ek_requant_avx2 *r)
{
    const __m256i ab = _mm256_add_epi16(_mm256_packs_epi32(a, b), r->zero);
    const __m256i cd = _mm256_add_epi16(_mm256_packs_epi32(c, d), r->zero);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    return _mm256_permutevar8x32_epi32(_mm256_packs_epi16(ab, cd), order);
}

#endif /* EK_REQUANT_AVX2_H */
