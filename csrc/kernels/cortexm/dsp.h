/* SPDX-License-Identifier: Apache-2.0
 *
 * Instructions of the DSP extension (ARMv7E-M, ARMv8-M), and requantization with them.
 */
#ifndef EK_DSP_H
#define EK_DSP_H

#include <arm_acle.h>

#include "../requant.h"
#include "../window.h"
#include "assembly.h"

/* Bytes 0 and 2, or 1 and 3, of a word as two int16. */
static inline uint32_t ek_dsp_even(uint32_t x)
{
    uint32_t y;
    __asm__("sxtb16 %0, %1" : "=r"(y) : "r"(x));
    return y;
}

static inline uint32_t ek_dsp_odd(uint32_t x)
{
    uint32_t y;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(y) : "r"(x));
    return y;
}

/* The lower halves of a and b; their upper halves: a's below. */
static inline uint32_t ek_dsp_lower(uint32_t a, uint32_t b)
{
    uint32_t y;
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(y) : "r"(a), "r"(b));
    return y;
}

static inline uint32_t ek_dsp_upper(uint32_t a, uint32_t b)
{
    uint32_t y;
    __asm__("pkhtb %0, %2, %1, asr #16" : "=r"(y) : "r"(a), "r"(b));
    return y;
}

/* acc + both products of halves. Sums wrap. */
static inline uint32_t ek_dsp_pair(uint32_t acc, uint32_t a, uint32_t b)
{
    __asm__("smlad %0, %1, %2, %0" : "+r"(acc) : "r"(a), "r"(b));
    return acc;
}

/* Four bytes at any address. Without an operating system clang takes memcpy for a call. */
static inline uint32_t ek_dsp_load(const int8_t *x)
{
    uint32_t word;
    __asm__("ldr %0, [%1]" : "=r"(word) : "r"(x), "m"(*(const int8_t(*)[4])x));
    return word;
}

static inline void ek_dsp_store(int8_t *x, uint32_t word)
{
    __asm__("str %1, [%2]" : "=m"(*(int8_t(*)[4])x) : "r"(word), "r"(x));
}

/* Two sums a, b and their multipliers ma, mb to two int8 results, with the zero point in `zero`;
 * see ek_dsp_requantize. Uses s0 and s1. */
#define EK_DSP_REQUANTIZE(a, b, ma, mb, zero)          \
    "    vmov s0, s1, " a ", " b "\n"                  \
    "    vcvt.f32.s32 s0, s0\n"                        \
    "    vcvt.f32.s32 s1, s1\n"                        \
    "    vmul.f32 s0, s0, " ma "\n"                    \
    "    vmul.f32 s1, s1, " mb "\n"                    \
    "    vcvtr.s32.f32 s0, s0\n"                       \
    "    vcvtr.s32.f32 s1, s1\n"                       \
    "    vmov " a ", " b ", s0, s1\n"                  \
    "    qadd " a ", " a ", " zero "\n"                \
    "    qadd " b ", " b ", " zero "\n"                \
    "    ssat " a ", #8, " a "\n"                      \
    "    ssat " b ", #8, " b "\n"

#ifdef __ARM_FP
/* As ek_requantize, on integers after rounding: vcvtr rounds to nearest even and saturates to
 * int32, and the zero point is added with saturation. A product is never NaN. `whole` tells that
 * the clamp is that of the type. */
static inline int8_t ek_dsp_requantize(uint32_t acc, float multiplier, const ek_clamp *clamp,
                                       int whole)
{
    float v = (float)(int32_t)acc * multiplier;
    int32_t q;
    __asm__("vcvtr.s32.f32 %0, %0" : "+t"(v));
    __asm__("vmov %0, %1" : "=r"(q) : "t"(v));
    q = __qadd(q, clamp->zero);
    if (whole)
        return (int8_t)__ssat(q, 8);
    q = q < clamp->lo ? clamp->lo : q;
    return (int8_t)(q > clamp->hi ? clamp->hi : q);
}
#else
static inline int8_t ek_dsp_requantize(uint32_t acc, float multiplier, const ek_clamp *clamp,
                                       int whole)
{
    const ek_requant r = ek_requant_init(clamp);
    (void)whole;
    return ek_requantize(acc, multiplier, &r);
}
#endif

static inline int ek_dsp_is_whole(const ek_clamp *clamp)
{
    return clamp->lo == INT8_MIN && clamp->hi == INT8_MAX;
}

/* What is clamped to the type already, to less. */
static inline void ek_dsp_clamp_range(const ek_conv_params *p, int8_t *out, const ek_range *range)
{
    for (int32_t row = range->row; row < range->row_end; row++)
        for (int32_t col = range->col; col < range->col_end; col++) {
            int8_t *y = out + ek_image_at(&p->out, row / p->out.h, row % p->out.h, col);
            for (int32_t c = range->ch; c < range->ch_end; c++)
                y[c] = (int8_t)ek_max(p->clamp.lo, ek_min(y[c], p->clamp.hi));
        }
}

/* The functions of a kernel that needs floating-point instructions, where there are none. */
#define EK_DSP_UNSUPPORTED(name)                                                               \
    void name(const void *params, const void *const in[], void *out, void *scratch,            \
              const ek_range *range)                                                           \
    {                                                                                          \
        (void)params, (void)in, (void)out, (void)scratch, (void)range;                         \
    }                                                                                          \
    int name##_supports(const void *params)                                                    \
    {                                                                                          \
        (void)params;                                                                          \
        return 0;                                                                              \
    }                                                                                          \
    size_t name##_scratch(const void *params)                                                  \
    {                                                                                          \
        (void)params;                                                                          \
        return 0;                                                                              \
    }

#endif /* EK_DSP_H */
