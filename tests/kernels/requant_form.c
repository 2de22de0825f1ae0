/* SPDX-License-Identifier: Apache-2.0
 *
 * One form of csrc/kernels/requant.h as functions: with EK_NO_FPU that of integers, else binary32;
 * and requant_fixed.h on top of it.
 */
#include "kernels/requant_fixed.h"

#ifdef EK_NO_FPU
#define FORM(name) integer_##name
#else
#define FORM(name) float_##name
#endif

int8_t FORM(requantize)(int32_t acc, float multiplier, const ek_clamp *clamp)
{
    const ek_requant r = ek_requant_init(clamp);
    return ek_requantize((uint32_t)acc, multiplier, &r);
}

int8_t FORM(fixed)(int32_t acc, float multiplier, const ek_clamp *clamp)
{
    const ek_fixed f = ek_fixed_init(multiplier);
    const ek_fixed_clamp c = ek_fixed_clamp_init(clamp);
    return (int8_t)ek_fixed_requantize((uint32_t)acc, &f, &c);
}

int8_t FORM(round)(float v, const ek_clamp *clamp)
{
    const ek_requant r = ek_requant_init(clamp);
    return ek_round_clamped(v, &r);
}

int8_t FORM(sum)(int32_t a, float a_multiplier, int32_t b, float b_multiplier,
                 const ek_clamp *clamp)
{
    const ek_requant r = ek_requant_init(clamp);
    const ek_sum s = ek_sum_init(a_multiplier, b_multiplier);
    return ek_requantize_sum(a, b, &s, &r);
}
