/* SPDX-License-Identifier: Apache-2.0
 *
 * Requantization of four to sixteen values: requant.h in NEON. AArch64 converts to the nearest
 * integer, halves to even, in one instruction that saturates; so do the narrowing ones, and the
 * clamp can come last, on bytes. ARMv7 can only truncate: there the clamp comes first, and the
 * constant that rounds leaves the integer in the low bits of the sum. Its NEON flushes subnormals
 * to zero, whose rounded value is the same.
 */
#ifndef EK_REQUANT_NEON_H
#define EK_REQUANT_NEON_H

#include <arm_neon.h>

#include "../requant.h"

#ifdef __aarch64__

typedef struct ek_requant_neon {
    int8x16_t lo, hi;
    int16x8_t zero;
} ek_requant_neon;

static inline ek_requant_neon ek_requant_neon_init(const ek_clamp *clamp)
{
    ek_requant_neon r;
    r.lo = vdupq_n_s8((int8_t)clamp->lo);
    r.hi = vdupq_n_s8((int8_t)clamp->hi);
    r.zero = vdupq_n_s16((int16_t)clamp->zero);
    return r;
}

/* Eight rounded values with their zero point, not clamped yet. NaN gives the zero point. */
static inline int16x8_t ek_round8_neon(float32x4_t a, float32x4_t b, const ek_requant_neon *r)
{
    const int16x4_t low = vqmovn_s32(vcvtnq_s32_f32(a));
    return vqaddq_s16(vqmovn_high_s32(low, vcvtnq_s32_f32(b)), r->zero);
}

static inline int8x16_t ek_clamp16_neon(int16x8_t a, int16x8_t b, const ek_requant_neon *r)
{
    return vminq_s8(vmaxq_s8(vqmovn_high_s16(vqmovn_s16(a), b), r->lo), r->hi);
}

static inline int8x8_t ek_clamp8_neon(int16x8_t a, const ek_requant_neon *r)
{
    return vmin_s8(vmax_s8(vqmovn_s16(a), vget_low_s8(r->lo)), vget_low_s8(r->hi));
}

#else

typedef struct ek_requant_neon {
    float32x4_t lo, hi;
    int16x8_t zero;
} ek_requant_neon;

static inline ek_requant_neon ek_requant_neon_init(const ek_clamp *clamp)
{
    const ek_requant scalar = ek_requant_init(clamp);
    ek_requant_neon r;
    r.lo = vdupq_n_f32(scalar.lo);
    r.hi = vdupq_n_f32(scalar.hi);
    r.zero = vdupq_n_s16((int16_t)scalar.zero);
    return r;
}

/* |v| <= 255 after the clamp, so that v + 1.5 * 2^23 holds rne(v) in its low 16 bits. */
static inline int16x4_t ek_round4_neon(float32x4_t v, const ek_requant_neon *r)
{
    const float32x4_t clamped = vminq_f32(vmaxq_f32(v, r->lo), r->hi);
    return vmovn_s32(vreinterpretq_s32_f32(vaddq_f32(clamped, vdupq_n_f32(12582912.0f))));
}

static inline int16x8_t ek_round8_neon(float32x4_t a, float32x4_t b, const ek_requant_neon *r)
{
    return vaddq_s16(vcombine_s16(ek_round4_neon(a, r), ek_round4_neon(b, r)), r->zero);
}

static inline int8x16_t ek_clamp16_neon(int16x8_t a, int16x8_t b, const ek_requant_neon *r)
{
    (void)r;
    return vcombine_s8(vmovn_s16(a), vmovn_s16(b));
}

static inline int8x8_t ek_clamp8_neon(int16x8_t a, const ek_requant_neon *r)
{
    (void)r;
    return vmovn_s16(a);
}

#endif

static inline float32x4_t ek_scale_neon(int32x4_t acc, float32x4_t multiplier)
{
    return vmulq_f32(vcvtq_f32_s32(acc), multiplier);
}

/* Four vectors of four accumulators, each with its multipliers. */
static inline int8x16_t ek_requantize16_neon(const int32x4_t acc[4], const float32x4_t m[4],
                                             const ek_requant_neon *r)
{
    const int16x8_t low =
        ek_round8_neon(ek_scale_neon(acc[0], m[0]), ek_scale_neon(acc[1], m[1]), r);
    const int16x8_t high =
        ek_round8_neon(ek_scale_neon(acc[2], m[2]), ek_scale_neon(acc[3], m[3]), r);
    return ek_clamp16_neon(low, high, r);
}

static inline int8x8_t ek_requantize8_neon(int32x4_t a, int32x4_t b, float32x4_t ma,
                                           float32x4_t mb, const ek_requant_neon *r)
{
    return ek_clamp8_neon(ek_round8_neon(ek_scale_neon(a, ma), ek_scale_neon(b, mb), r), r);
}

#endif /* EK_REQUANT_NEON_H */
