/* SPDX-License-Identifier: Apache-2.0
 *
 * Requantization of sixteen values: requant.h in AVX-512. cvtps rounds to nearest even, which
 * ek_open has checked to be the mode.
 */
#ifndef EK_REQUANT_AVX512VNNI_H
#define EK_REQUANT_AVX512VNNI_H

#include <immintrin.h>

#include "../requant.h"

typedef struct ek_requant_avx512vnni {
    __m512 lo, hi;  /* before the zero point is added */
    __m512i zero;   /* as 16 bit */
    __m512i lowest, highest; /* the clamp as 8 bit */
    __m512i top;    /* what saturates to 127, as binary32 */
    __m512i order;  /* of 32-bit parts, for ek_pack64 */
    int clamps;     /* whether the clamp is narrower than int8, as few are */
} ek_requant_avx512vnni;

static inline ek_requant_avx512vnni ek_requant_avx512vnni_init(const ek_clamp *clamp)
{
    const ek_requant scalar = ek_requant_init(clamp);
    ek_requant_avx512vnni r;
    r.lo = _mm512_set1_ps(scalar.lo);
    r.hi = _mm512_set1_ps(scalar.hi);
    r.zero = _mm512_set1_epi16((short)scalar.zero);
    r.lowest = _mm512_set1_epi8((char)clamp->lo);
    r.highest = _mm512_set1_epi8((char)clamp->hi);
    r.top = _mm512_castps_si512(_mm512_set1_ps(32768.0f));
    r.clamps = clamp->lo > -128 || clamp->hi < 127;
    r.order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return r;
}

/* rne(v), clamped, before the zero point is added. max returns its second operand for NaN. */
static inline __m512i ek_round_avx512vnni(__m512 v, const ek_requant_avx512vnni *r)
{
    return _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(v, r->lo), r->hi));
}

static inline __m512i ek_requantize_avx512vnni(__m512i acc, __m512 multiplier,
                                               const ek_requant_avx512vnni *r)
{
    return ek_round_avx512vnni(_mm512_mul_ps(_mm512_cvtepi32_ps(acc), multiplier), r);
}

/* Sixteen rounded values as int8, their lowest bytes. */
static inline __m128i ek_pack16_avx512vnni(__m512i a, const ek_requant_avx512vnni *r)
{
    return _mm512_cvtepi32_epi8(_mm512_add_epi16(a, r->zero));
}

/* rne(v) for ek_pack64, where v cannot be NaN. Packing saturates, so that clamps then take one
 * instruction for 64 values each. Here is only what an int32 cannot hold: below, the conversion
 * gives the lowest value, which becomes an int8 of -128 whatever the zero point; above, v is
 * limited first. As integers binary32 numbers have the same order, except that negative ones stay
 * below positive ones in any order; and an integer minimum does not take the multiplier's place. */
static inline __m512i ek_round_top(__m512 v, const ek_requant_avx512vnni *r)
{
    const __m512i limited = _mm512_min_epi32(_mm512_castps_si512(v), r->top);
    return _mm512_cvtps_epi32(_mm512_castsi512_ps(limited));
}

static inline __m512i ek_requantize_top(__m512i acc, __m512 multiplier,
                                        const ek_requant_avx512vnni *r)
{
    return ek_round_top(_mm512_mul_ps(_mm512_cvtepi32_ps(acc), multiplier), r);
}

/* rne(v) for ek_pack64 where v < 2^31. */
static inline __m512i ek_round_small(__m512 v)
{
    return _mm512_cvtps_epi32(v);
}

/* The same of acc * multiplier, which is below 2^31 for every multiplier below 1. */
static inline __m512i ek_requantize_small(__m512i acc, __m512 multiplier)
{
    return ek_round_small(_mm512_mul_ps(_mm512_cvtepi32_ps(acc), multiplier));
}

/* Four vectors of ek_round_top as int8: of each 128-bit lane four values of a, of b, of c and of d
 * follow each other. */
static inline __m512i ek_pack64_lanes(__m512i a, __m512i b, __m512i c, __m512i d,
                                      const ek_requant_avx512vnni *r)
{
    const __m512i ab = _mm512_adds_epi16(_mm512_packs_epi32(a, b), r->zero);
    const __m512i cd = _mm512_adds_epi16(_mm512_packs_epi32(c, d), r->zero);
    const __m512i all = _mm512_packs_epi16(ab, cd);
    if (!r->clamps) /* a branch that is foreseen, in place of two instructions for each vector */
        return all;
    return _mm512_min_epi8(_mm512_max_epi8(all, r->lowest), r->highest);
}

/* The same in order: all of a, then b, c and d. */
static inline __m512i ek_pack64(__m512i a, __m512i b, __m512i c, __m512i d,
                                const ek_requant_avx512vnni *r)
{
    return _mm512_permutexvar_epi32(r->order, ek_pack64_lanes(a, b, c, d, r));
}

#endif /* EK_REQUANT_AVX512VNNI_H */
