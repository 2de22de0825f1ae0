/* SPDX-License-Identifier: Apache-2.0
 *
 * Bits depend on the rounding mode and on a*b+c being two roundings. Both are probed, with operands
 * that the compiler cannot see, in a file that is built with the flags of all others.
 */
#include "float_state.h"

#include <float.h>

#ifdef __FAST_MATH__
#error "edgekit must not be built with -ffast-math: results would depend on the compiler"
#endif

/* 16: _Float16 has arithmetic of its own, and float keeps its. */
#if FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 16
#error "edgekit needs float arithmetic in single precision: on 32-bit x86 build with -msse2 -mfpmath=sse"
#endif

/* In units of 1 + 2^-23: half a unit above an even value goes down, above an odd one up. */
static int rounds_to_nearest_even(float sign)
{
    volatile float one = sign, unit = sign * 0x1p-23f, half = sign * 0x1p-24f;
    const float even = one + half;
    const float odd = one + unit;
    const volatile float above_odd = odd;
    return even == one && above_odd + half == one + (unit + unit);
}

/* (1 + 2^-12)^2 = 1 + 2^-11 + 2^-24 rounds to 1 + 2^-11; a fused operation keeps the rest. */
static int rounds_products(void)
{
    volatile float a = 1 + 0x1p-12f, minus_square = -(1 + 0x1p-11f);
    const float b = a, c = minus_square;
    return b * b + c == 0;
}

int ek_float_state_is_sound(void)
{
    return rounds_to_nearest_even(1) && rounds_to_nearest_even(-1) && rounds_products();
}
