/* SPDX-License-Identifier: Apache-2.0
 *
 * Requantization of four values: requant.h in SSE4.1. cvtps rounds to nearest even, which ek_open
 * has checked to be the mode.
 */
#ifndef EK_REQUANT_SSE41_H
#define EK_REQUANT_SSE41_H

#include <smmintrin.h>

#include "../requant.h"

typedef struct ek_requant_sse41 {
    __m128 lo, hi;
    __m128i zero;            /* as 16 bit */
    __m128i lowest, highest; /* results, as 8 bit */
    int clamps;              /* these are not the type's */
} ek_requant_sse41;

static inline ek_requant_sse41 ek_requant_sse41_init(const ek_clamp *clamp)
{
    const ek_requant scalar = ek_requant_init(clamp);
    ek_requant_sse41 r;
    r.lo = _mm_set1_ps(scalar.lo);
    r.hi = _mm_set1_ps(scalar.hi);
    r.zero = _mm_set1_epi16((short)scalar.zero);
    r.lowest = _mm_set1_epi8((char)clamp->lo);
    r.highest = _mm_set1_epi8((char)clamp->hi);
    r.clamps = clamp->lo > -128 || clamp->hi < 127;
    return r;
}

/* rne(v), clamped, before the zero point is added. max returns its second operand for NaN. */
static inline __m128i ek_round_sse41(__m128 v, const ek_requant_sse41 *r)
{
    return _mm_cvtps_epi32(_mm_min_ps(_mm_max_ps(v, r->lo), r->hi));
}

static inline __m128i ek_requantize_sse41(__m128i acc, __m128 multiplier, const ek_requant_sse41 *r)
{
    return ek_round_sse41(_mm_mul_ps(_mm_cvtepi32_ps(acc), multiplier), r);
}

/* Four times four rounded values as int8, in order. */
static inline __m128i ek_pack16_sse41(__m128i a, __m128i b, __m128i c, __m128i d,
                                      const ek_requant_sse41 *r)
{
    const __m128i ab = _mm_add_epi16(_mm_packs_epi32(a, b), r->zero);
    const __m128i cd = _mm_add_epi16(_mm_packs_epi32(c, d), r->zero);
    return _mm_packs_epi16(ab, cd);
}

/* For ek_pack16_any_sse41, where v may be 2^31 or more: cvtps makes the lowest integer of it. */
static inline __m128 ek_limit_top_sse41(__m128 v, const ek_requant_sse41 *r)
{
    return _mm_min_ps(v, r->hi);
}

/* Four times four values below 2^31, of any size otherwise, as int8, in order: cvtps makes the
 * lowest integer of what is below, each step saturates, and the clamps come last. */
static inline __m128i ek_pack16_any_sse41(__m128 a, __m128 b, __m128 c, __m128 d,
                                          const ek_requant_sse41 *r)
{
    const __m128i ab16 = _mm_packs_epi32(_mm_cvtps_epi32(a), _mm_cvtps_epi32(b));
    const __m128i cd16 = _mm_packs_epi32(_mm_cvtps_epi32(c), _mm_cvtps_epi32(d));
    const __m128i ab = _mm_adds_epi16(ab16, r->zero), cd = _mm_adds_epi16(cd16, r->zero);
    return _mm_packs_epi16(ab, cd);
}

/* Ends ek_pack16_any_sse41 where r->clamps. */
static inline __m128i ek_clamp_bytes_sse41(__m128i bytes, const ek_requant_sse41 *r)
{
    return _mm_min_epi8(_mm_max_epi8(bytes, r->lowest), r->highest);
}

#endif /* EK_REQUANT_SSE41_H */
