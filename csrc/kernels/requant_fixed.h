/* SPDX-License-Identifier: Apache-2.0
 *
 * Requantization by one 32-bit product, for processors without floating-point unit or 64-bit
 * product: the results of requant.h, from a multiplier that is prepared once for many sums.
 *
 * The sum is shortened to 16 bits and the multiplier to 15, which moves the product by less than
 * EK_FIXED_WINDOW. Where a tie lies within that, 3 times in 100, requant.h decides.
 */
#ifndef EK_REQUANT_FIXED_H
#define EK_REQUANT_FIXED_H

#include <string.h>

#include "requant.h"

/* acc * multiplier = (acc >> shift) * factor * 2^-EK_FIXED_BITS, but for what is cut off. */
#define EK_FIXED_BITS 21

typedef struct ek_fixed {
    int32_t factor; /* 2^14 to 2^21; 0: the multiplier does not fit, and requant.h computes all */
    int32_t shift;  /* 0 to 15 */
    int32_t limit;  /* |acc| above it makes |product| at least 255.5: beyond any clamp */
    float multiplier;
} ek_fixed;

/* In units of 2^-EK_FIXED_BITS: what a sum loses when it is shortened is worth 0 to 2^15, the
 * factor's range then, and EK_FIXED_LOST is added for it. */
#define EK_FIXED_LOST (1 << 14)

/* How far a product may be off: by EK_FIXED_LOST; by half of the shortened sum, of at most 2^15, as
 * the factor is rounded; by 2^-14 for the two roundings of binary32. */
#define EK_FIXED_WINDOW (EK_FIXED_LOST + (1 << 14) + (1 << (EK_FIXED_BITS - 14)))

/* For multipliers in [2^-22, 1), of exponents 105 to 126. */
static inline ek_fixed ek_fixed_init(float multiplier)
{
    uint32_t bits;
    memcpy(&bits, &multiplier, sizeof bits);
    const int32_t exponent = (int32_t)(bits >> 23); /* a multiplier is positive */
    const uint32_t significand = (bits & 0x7FFFFF) | 0x800000;
    ek_fixed f = {.multiplier = multiplier};
    if (105 <= exponent && exponent <= 120) {
        f.shift = 120 - exponent;
        f.factor = (int32_t)((significand + (1 << 8)) >> 9);
        f.limit = ((1 << 15) - 1) << f.shift;
    } else if (120 < exponent && exponent <= 126) {
        const int32_t down = 129 - exponent;
        f.factor = (int32_t)((significand + (1u << (down - 1))) >> down);
        f.limit = 1 << (135 - exponent);
    }
    return f;
}

/* What all outputs of a call have in common. */
typedef struct ek_fixed_clamp {
    int32_t lo, hi;
    int32_t offset; /* what is added before the last shift, the zero point included */
    const ek_clamp *clamp;
} ek_fixed_clamp;

static inline ek_fixed_clamp ek_fixed_clamp_init(const ek_clamp *clamp)
{
    const int32_t half = 1 << (EK_FIXED_BITS - 1);
    const int32_t offset = half + EK_FIXED_LOST + EK_FIXED_WINDOW;
    return (ek_fixed_clamp){clamp->lo, clamp->hi, clamp->zero * (1 << EK_FIXED_BITS) + offset,
                            clamp};
}

/* Out of line, as it is rare and would take registers. */
static __attribute__((noinline)) int8_t ek_fixed_exactly(uint32_t acc, float multiplier,
                                                         const ek_clamp *clamp)
{
    const ek_requant r = ek_requant_init(clamp);
    return ek_requantize(acc, multiplier, &r);
}

/* As ek_requantize. |acc| <= limit keeps the product within 2^30, and the zero point adds 2^28 at
 * most. */
static inline int32_t ek_fixed_requantize(uint32_t acc, const ek_fixed *f, const ek_fixed_clamp *c)
{
    const uint32_t near_tie = (uint32_t)(2 * EK_FIXED_WINDOW) << (32 - EK_FIXED_BITS);
    if (acc + (uint32_t)f->limit > 2 * (uint32_t)f->limit)
        return f->factor == 0       ? ek_fixed_exactly(acc, f->multiplier, c->clamp)
               : (int32_t)acc < 0 ? c->lo
                                  : c->hi;
    const int32_t v = ((int32_t)acc >> f->shift) * f->factor + c->offset;
    if ((uint32_t)v << (32 - EK_FIXED_BITS) < near_tie)
        return ek_fixed_exactly(acc, f->multiplier, c->clamp);
    const int32_t q = v >> EK_FIXED_BITS;
    return q < c->lo ? c->lo : q > c->hi ? c->hi : q;
}

/* `count` sums that begin at `start`, of one multiplier, to outputs `step` apart. */
static inline void ek_fixed_store(const uint32_t *sums, int32_t count, const ek_fixed *f,
                                  uint32_t start, const ek_fixed_clamp *c, int8_t *y,
                                  ptrdiff_t step)
{
    for (; count > 0; count--, sums++, y += step)
        *y = (int8_t)ek_fixed_requantize(*sums + start, f, c);
}

#endif /* EK_REQUANT_FIXED_H */
