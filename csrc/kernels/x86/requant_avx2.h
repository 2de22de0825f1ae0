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
    __m256i zero;            /* as 16 bit */
    __m256i lowest, highest; /* results, as 8 bit */
    int clamps;              /* these are not the type's */
} ek_requant_avx2;

static inline ek_requant_avx2 ek_requant_avx2_init(const ek_clamp *clamp)
{
    const ek_requant scalar = ek_requant_init(clamp);
    ek_requant_avx2 r;
    r.lo = _mm256_set1_ps(scalar.lo);
    r.hi = _mm256_set1_ps(scalar.hi);
    r.zero = _mm256_set1_epi16((short)scalar.zero);
    r.lowest = _mm256_set1_epi8((char)clamp->lo);
    r.highest = _mm256_set1_epi8((char)clamp->hi);
    r.clamps = clamp->lo > -128 || clamp->hi < 127;
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

/* For ek_pack32_any_avx2, where v may be 2^31 or more: cvtps makes the lowest integer of it. */
static inline __m256 ek_limit_top_avx2(__m256 v, const ek_requant_avx2 *r)
{
    return _mm256_min_ps(v, r->hi);
}

/* Four times eight values below 2^31, of any size otherwise, as int8, in order: cvtps makes the
 * lowest integer of what is below, each step saturates, and the clamps come last. */
static inline __m256i ek_pack32_any_avx2(__m256 a, __m256 b, __m256 c, __m256 d,
                                         const ek_requant_avx2 *r)
{
    const __m256i ab16 = _mm256_packs_epi32(_mm256_cvtps_epi32(a), _mm256_cvtps_epi32(b));
    const __m256i cd16 = _mm256_packs_epi32(_mm256_cvtps_epi32(c), _mm256_cvtps_epi32(d));
    const __m256i ab = _mm256_adds_epi16(ab16, r->zero), cd = _mm256_adds_epi16(cd16, r->zero);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    return _mm256_permutevar8x32_epi32(_mm256_packs_epi16(ab, cd), order);
}

/* Ends ek_pack32_any_avx2 where r->clamps. */
static inline __m256i ek_clamp_bytes_avx2(__m256i bytes, const ek_requant_avx2 *r)
{
    return _mm256_min_epi8(_mm256_max_epi8(bytes, r->lowest), r->highest);
}

#endif /* EK_REQUANT_AVX2_H */
