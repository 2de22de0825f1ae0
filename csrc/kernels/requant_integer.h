/* SPDX-License-Identifier: Apache-2.0
 *
 * Requantization for processors without floating-point unit: the results of requant.h's binary32
 * operations, by integers. Included by requant.h alone.
 *
 * A real product lies within a bound of the binary32 one. Unless it is that near to a tie, both
 * round to the same integer; and there, less than once in thousands, software arithmetic decides.
 */
#ifndef EK_REQUANT_INTEGER_H
#define EK_REQUANT_INTEGER_H

#include <string.h>

#include "kernel.h"

/* An ek_clamp seen from before the zero point is added: lo and hi lie in [-255, 255]. */
typedef struct ek_requant {
    int32_t lo, hi, zero;
} ek_requant;

static inline ek_requant ek_requant_init(const ek_clamp *clamp)
{
    return (ek_requant){clamp->lo - clamp->zero, clamp->hi - clamp->zero, clamp->zero};
}

static inline int8_t ek_clamp_integer(int32_t v, const ek_requant *r)
{
    v = v < r->lo ? r->lo : v;
    v = v > r->hi ? r->hi : v;
    return (int8_t)(v + r->zero);
}

static inline uint32_t ek_float_bits(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

/* Of a binary32 number 1.f * 2^e: 127 + e, and 1.f * 2^23. */
static inline int32_t ek_biased_exponent(uint32_t bits)
{
    return (int32_t)(bits >> 23 & 0xFF);
}

static inline uint32_t ek_significand(uint32_t bits)
{
    return (bits & 0x7FFFFF) | 0x800000;
}

/* sat(rne(v) + zero): |v| is at most 255 after the clamp, so 2^9 stands for all above it. */
static inline int8_t ek_round_clamped(float v, const ek_requant *r)
{
    const uint32_t bits = ek_float_bits(v), magnitude = bits & 0x7FFFFFFF;
    const int32_t shift = 150 - ek_biased_exponent(bits); /* v = significand * 2^-shift */
    int32_t rounded = 0;                                  /* |v| < 0.5 */
    if (magnitude > 0x7F800000)
        return (int8_t)(r->lo + r->zero); /* NaN */
    if (shift <= 14) {
        rounded = 1 << 9;
    } else if (shift <= 24) {
        const uint32_t significand = ek_significand(bits);
        const uint32_t odd = significand >> shift & 1;
        rounded = (int32_t)((significand + (1u << (shift - 1)) - 1 + odd) >> shift);
    }
    return ek_clamp_integer(bits >> 31 ? -rounded : rounded, r);
}

/* The two roundings as they are written. */
static inline int8_t ek_requantize_exactly(int32_t acc, float multiplier, const ek_requant *r)
{
    return ek_round_clamped((float)acc * multiplier, r);
}

/* Of a product below 2^9 the two roundings together move less than 2^9 * 2 * 2^-24 = 2^-14. */
#define EK_PRODUCT_WINDOW (1u << (32 - 14))

/* `acc` is the accumulator's two's complement bit pattern; multiplier > 0.
 *
 * The product is acc * s * 2^-(32 + k), s in [2^30, 2^31). Its upper word, rounded at bit k, is the
 * result, and the bits below k, moved to the top of a word, are 0 at a tie. */
static inline int8_t ek_requantize(uint32_t acc, float multiplier, const ek_requant *r)
{
    const uint32_t bits = ek_float_bits(multiplier);
    const int32_t k = 125 - ek_biased_exponent(bits);
    if (k < 1 || k > 31) /* at least 2^-2, or below 2^-33 */
        return ek_requantize_exactly((int32_t)acc, multiplier, r);
    const int64_t product = (int64_t)(int32_t)acc * (int32_t)(ek_significand(bits) << 7);
    const int32_t upper = (int32_t)(product >> 32) + (1 << (k - 1));
    const uint32_t fraction = (uint32_t)upper << (32 - k) | (uint32_t)product >> k;
    if (fraction + EK_PRODUCT_WINDOW <= 2 * EK_PRODUCT_WINDOW)
        return ek_requantize_exactly((int32_t)acc, multiplier, r);
    return ek_clamp_integer(upper >> k, r);
}

/* f32(f32(a * ma) + f32(b * mb)) for |a|, |b| <= 255. `shift` is that of fixed-point multipliers
 * for which |sum| < 2^30; 0 where there are none. */
typedef struct ek_sum {
    float a_multiplier, b_multiplier;
    int32_t a_fixed, b_fixed, shift;
} ek_sum;

/* v * 2^shift, of magnitude below 2^21, off by half a unit at most. */
static inline int32_t ek_fixed_point(float v, int32_t shift)
{
    const uint32_t bits = ek_float_bits(v);
    const int32_t down = 150 - ek_biased_exponent(bits) - shift; /* 3 or more */
    uint32_t fixed = 0;
    if (down <= 24)
        fixed = (ek_significand(bits) + (1u << (down - 1))) >> down;
    return bits >> 31 ? -(int32_t)fixed : (int32_t)fixed;
}

#define EK_SUM_MIN_SHIFT 12
#define EK_SUM_MAX_SHIFT 24

static inline ek_sum ek_sum_init(float a_multiplier, float b_multiplier)
{
    const int32_t a = ek_biased_exponent(ek_float_bits(a_multiplier));
    const int32_t b = ek_biased_exponent(ek_float_bits(b_multiplier));
    /* Multipliers below 2^(e - 126), e the larger exponent: two products of 255 below
     * 2^(e - 117). */
    const int32_t fitting = 147 - (a > b ? a : b);
    ek_sum s = {.a_multiplier = a_multiplier, .b_multiplier = b_multiplier};
    if (fitting < EK_SUM_MIN_SHIFT)
        return s;
    s.shift = fitting > EK_SUM_MAX_SHIFT ? EK_SUM_MAX_SHIFT : fitting;
    s.a_fixed = ek_fixed_point(a_multiplier, s.shift);
    s.b_fixed = ek_fixed_point(b_multiplier, s.shift);
    return s;
}

/* In units of 2^-shift: half a unit for each of 2 * 255, and three roundings of numbers below 2^30,
 * each by less than 2^-24 of it. */
#define EK_SUM_WINDOW (255 + 3 * 64)

static inline int8_t ek_requantize_sum(int32_t a, int32_t b, const ek_sum *s, const ek_requant *r)
{
    if (s->shift != 0) {
        const uint32_t unit = 1u << s->shift;
        const int32_t sum = a * s->a_fixed + b * s->b_fixed + (int32_t)(unit / 2);
        const uint32_t fraction = (uint32_t)sum & (unit - 1);
        if (fraction - EK_SUM_WINDOW <= unit - 2 * EK_SUM_WINDOW)
            return ek_clamp_integer(sum >> s->shift, r);
    }
    const float a_product = s->a_multiplier * (float)a, b_product = s->b_multiplier * (float)b;
    return ek_round_clamped(a_product + b_product, r);
}

#endif /* EK_REQUANT_INTEGER_H */
