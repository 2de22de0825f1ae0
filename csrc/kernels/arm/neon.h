/* SPDX-License-Identifier: Apache-2.0
 *
 * NEON operations on the low and high halves of vectors. ARMv7 has none for high halves and needs
 * none, as its halves are registers of their own. GCC for AArch64 gives a low half that is used
 * more than once a register of its own, too, of which there are not enough: hence the assembly.
 */
#ifndef EK_NEON_H
#define EK_NEON_H

#include <arm_neon.h>

#define INLINE static inline __attribute__((always_inline))

/* Before a loop of up to four rounds, so that the vectors that it walks over stay in registers. */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 4")
#endif

#ifdef __aarch64__

#ifndef __clang__
INLINE int16x8_t mull_low(int8x16_t a, int8x16_t b)
{
    int16x8_t s;
    __asm__("smull %0.8h, %1.8b, %2.8b" : "=w"(s) : "w"(a), "w"(b));
    return s;
}
INLINE int16x8_t mlal_low(int16x8_t s, int8x16_t a, int8x16_t b)
{
    __asm__("smlal %0.8h, %1.8b, %2.8b" : "+w"(s) : "w"(a), "w"(b));
    return s;
}
#define EK_HAS_LOW_HALVES
#endif

INLINE int16x8_t mull_high(int8x16_t a, int8x16_t b) { return vmull_high_s8(a, b); }
INLINE int16x8_t mlal_high(int16x8_t s, int8x16_t a, int8x16_t b)
{
    return vmlal_high_s8(s, a, b);
}
INLINE int32x4_t mlal_high16(int32x4_t s, int16x8_t a, int16x8_t b)
{
    return vmlal_high_s16(s, a, b);
}
INLINE int32x4_t addw_high(int32x4_t a, int16x8_t b) { return vaddw_high_s16(a, b); }
INLINE int16x8_t addw_high8(int16x8_t a, int8x16_t b) { return vaddw_high_s8(a, b); }
INLINE int32x4_t movl_high(int16x8_t a) { return vmovl_high_s16(a); }
INLINE int16x8_t subl_high(int8x16_t a, int8x16_t b) { return vsubl_high_s8(a, b); }

#else

INLINE int16x8_t mull_high(int8x16_t a, int8x16_t b)
{
    return vmull_s8(vget_high_s8(a), vget_high_s8(b));
}
INLINE int16x8_t mlal_high(int16x8_t s, int8x16_t a, int8x16_t b)
{
    return vmlal_s8(s, vget_high_s8(a), vget_high_s8(b));
}
INLINE int32x4_t mlal_high16(int32x4_t s, int16x8_t a, int16x8_t b)
{
    return vmlal_s16(s, vget_high_s16(a), vget_high_s16(b));
}
INLINE int32x4_t addw_high(int32x4_t a, int16x8_t b) { return vaddw_s16(a, vget_high_s16(b)); }
INLINE int16x8_t addw_high8(int16x8_t a, int8x16_t b) { return vaddw_s8(a, vget_high_s8(b)); }
INLINE int32x4_t movl_high(int16x8_t a) { return vmovl_s16(vget_high_s16(a)); }
INLINE int16x8_t subl_high(int8x16_t a, int8x16_t b)
{
    return vsubl_s8(vget_high_s8(a), vget_high_s8(b));
}

#endif

#ifndef EK_HAS_LOW_HALVES
INLINE int16x8_t mull_low(int8x16_t a, int8x16_t b)
{
    return vmull_s8(vget_low_s8(a), vget_low_s8(b));
}
INLINE int16x8_t mlal_low(int16x8_t s, int8x16_t a, int8x16_t b)
{
    return vmlal_s8(s, vget_low_s8(a), vget_low_s8(b));
}
#endif

#endif /* EK_NEON_H */
