/* SPDX-License-Identifier: Apache-2.0
 *
 * Elementwise operators on 64 values at a time, in the order that unpacking leaves them in and
 * packing undoes: a quarter is four values of each 128-bit lane.
 */
#ifndef EK_ELEMENTWISE_AVX512VNNI_H
#define EK_ELEMENTWISE_AVX512VNNI_H

#include "../broadcast.h"
#include "../kernels.h"
#include "requant_avx512vnni.h"

#define BYTES 64
#define QUARTERS 4

#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 4")
#endif

/* The upper half of 2^23 as binary32; the number with a byte in its lowest bits is 2^23 more. */
#define EXPONENT 0x4B00
#define TWO_POW_23 8388608.0f

typedef struct quarters {
    __m512 q[QUARTERS];
} quarters;

/* Bytes less `zero`, exact. `origin` is origin_of(zero). */
static inline __attribute__((always_inline)) quarters widen(__m512i x, __m512 origin)
{
    const __m512i none = _mm512_setzero_si512(), exponent = _mm512_set1_epi16(EXPONENT);
    const __m512i u = _mm512_xor_si512(x, _mm512_set1_epi8(-128));
    const __m512i lo = _mm512_unpacklo_epi8(u, none), hi = _mm512_unpackhi_epi8(u, none);
    const __m512i parts[QUARTERS] = {
        _mm512_unpacklo_epi16(lo, exponent), _mm512_unpackhi_epi16(lo, exponent),
        _mm512_unpacklo_epi16(hi, exponent), _mm512_unpackhi_epi16(hi, exponent)};
    quarters y;
    UNROLL for (int i = 0; i < QUARTERS; i++)
        y.q[i] = _mm512_sub_ps(_mm512_castsi512_ps(parts[i]), origin);
    return y;
}

/* What `widen` makes of `zero`, before it subtracts. */
static inline __m512 origin_of(int32_t zero)
{
    return _mm512_set1_ps(TWO_POW_23 + 128.0f + (float)zero);
}

static inline __m512i pack(const quarters *v, const ek_requant_avx512vnni *r)
{
    return ek_pack64_lanes(ek_round_top(v->q[0], r), ek_round_top(v->q[1], r),
                           ek_round_top(v->q[2], r), ek_round_top(v->q[3], r), r);
}

/* The same of values below 2^31. */
static inline __m512i pack_small(const quarters *v, const ek_requant_avx512vnni *r)
{
    return ek_pack64_lanes(ek_round_small(v->q[0]), ek_round_small(v->q[1]),
                           ek_round_small(v->q[2]), ek_round_small(v->q[3]), r);
}

/* An operand's values from channel i on, or one value for all; `mask` (a constant of all ones where
 * no value is missing) says which exist. */
static inline __attribute__((always_inline)) __m512i operand(const int8_t *x, int32_t stride,
                                                             int32_t i, __mmask64 mask)
{
    if (stride == 0)
        return _mm512_set1_epi8(*x);
    return mask == ~(__mmask64)0 ? _mm512_loadu_si512(x + i) : _mm512_maskz_loadu_epi8(mask, x + i);
}

static inline __mmask64 first_values(int32_t count)
{
    return count >= BYTES ? ~(__mmask64)0 : ((__mmask64)1 << count) - 1;
}

#endif /* EK_ELEMENTWISE_AVX512VNNI_H */
