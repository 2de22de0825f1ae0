/* SPDX-License-Identifier: Apache-2.0
 *
 * Requantization in scalar C: sat(rne(v) + zero), and v = f32(acc) * m. Every scalar kernel rounds
 * here; x86/requant_*.h do the same for vectors.
 */
#ifndef EK_REQUANT_H
#define EK_REQUANT_H

#include <float.h>

#include "kernel.h"

#ifdef __FAST_MATH__
#error "edgekit's results are defined by IEEE-754: build without -ffast-math"
#endif
#if defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD != 0
#error "edgekit needs binary32 arithmetic without excess precision (x86: -msse2 -mfpmath=sse)"
#endif
#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#endif

/* An ek_clamp seen from before the zero point is added: lo and hi lie in [-255, 255]. */
typedef struct ek_requant {
    float lo, hi;
    int32_t zero;
} ek_requant;

static inline ek_requant ek_requant_init(const ek_clamp *clamp)
{
    ek_requant r;
    r.lo = (float)(clamp->lo - clamp->zero);
    r.hi = (float)(clamp->hi - clamp->zero);
    r.zero = clamp->zero;
    return r;
}

/* Clamps first: the bounds are integers, so the result is the same, and rounding then only sees
 * |v| <= 255. There 1.5 * 2^23 pushes the fraction out of the significand, to nearest even. The
 * first comparison is false for NaN. */
static inline int8_t ek_round_clamped(float v, const ek_requant *r)
{
    const float magic = 12582912.0f;
    v = v > r->lo ? v : r->lo;
    v = v < r->hi ? v : r->hi;
    v = (v + magic) - magic;
    return (int8_t)((int32_t)v + r->zero);
}

/* `acc` is the accumulator's two's complement bit pattern. */
static inline int8_t ek_requantize(uint32_t acc, float multiplier, const ek_requant *r)
{
    return ek_round_clamped((float)(int32_t)acc * multiplier, r);
}

#endif /* EK_REQUANT_H */
