/* SPDX-License-Identifier: Apache-2.0
 *
 * Requantization in scalar C: sat(rne(v) + zero), and v = f32(acc) * m. Every scalar kernel rounds
 * here; requant_*.h of the architectures do the same for vectors. Without floating-point unit, or
 * with EK_NO_FPU, requant_integer.h computes the same.
 */
#ifndef EK_REQUANT_H
#define EK_REQUANT_H

#include <float.h>

#include "kernel.h"

#ifdef __FAST_MATH__
#error "edgekit's results are defined by IEEE-754: build without -ffast-math"
#endif
/* 16: _Float16 has arithmetic of its own, and float keeps its. */
#if defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 16
#error "edgekit needs binary32 arithmetic without excess precision (x86: -msse2 -mfpmath=sse)"
#endif
#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#endif

#if defined(__arm__) && !defined(__ARM_FP) && !defined(EK_NO_FPU)
#define EK_NO_FPU
#endif

#ifdef EK_NO_FPU
#include "requant_integer.h"
#else

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

/* The multipliers of a sum of two products. */
typedef struct ek_sum {
    float a_multiplier, b_multiplier;
} ek_sum;

static inline ek_sum ek_sum_init(float a_multiplier, float b_multiplier)
{
    return (ek_sum){a_multiplier, b_multiplier};
}

/* sat(rne(f32(f32(a * ma) + f32(b * mb))) + zero) for |a|, |b| <= 255. */
static inline int8_t ek_requantize_sum(int32_t a, int32_t b, const ek_sum *s, const ek_requant *r)
{
    const float a_product = s->a_multiplier * (float)a, b_product = s->b_multiplier * (float)b;
    return ek_round_clamped(a_product + b_product, r);
}

#endif /* EK_NO_FPU */

#endif /* EK_REQUANT_H */
