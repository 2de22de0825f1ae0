/* SPDX-License-Identifier: Apache-2.0
 *
 * The correctly rounded square root of a binary32 number: the instruction where there is one, else
 * by integers. No library is called.
 */
#ifndef EK_SQUARE_ROOT_H
#define EK_SQUARE_ROOT_H

#include <stdint.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* floor(sqrt(n)) for n < 2^50, one bit of the root after the other. */
static inline uint32_t ek_integer_root(uint64_t n)
{
    uint64_t root = 0;
    for (uint64_t bit = UINT64_C(1) << 48; bit != 0; bit >>= 2) {
        const uint64_t trial = root + bit; /* (2 * root so far + 1) in units of bit */
        root >>= 1;
        if (n >= trial) {
            n -= trial;
            root += bit;
        }
    }
    return (uint32_t)root;
}

/* x positive, finite and normal. x = s * 2^e with e even and s in [2^46, 2^48) has the root
 * sqrt(s) * 2^(e / 2), and sqrt(s) in [2^23, 2^24) is a significand. One more bit of it, taken from
 * 4 * s, says which way to round; it is never a tie: (2r + 1)^2 is odd and 4 * s is not. */
static inline float ek_square_root_by_integers(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const int32_t exponent = (int32_t)(bits >> 23) - 127; /* x = 1.f * 2^exponent */
    const int32_t odd = exponent & 1;
    const uint64_t significand = (bits & 0x7FFFFF) | 0x800000;
    const uint32_t root = ek_integer_root(significand << (23 + odd + 2)); /* in [2^24, 2^25) */
    const uint32_t rounded = (root + 1) >> 1; /* 2^24 carries into the exponent below */
    bits = ((uint32_t)((exponent - odd) / 2 + 126) << 23) + rounded;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* x positive, finite and normal. */
static inline float ek_square_root(float x)
{
#if defined(__SSE2__)
    return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x)));
#elif defined(__aarch64__) && defined(__GNUC__)
    __asm__("fsqrt %s0, %s0" : "+w"(x));
    return x;
#elif defined(__arm__) && defined(__ARM_FP) && (__ARM_FP & 4) && !defined(EK_NO_FPU)
    __asm__("vsqrt.f32 %0, %0" : "+t"(x));
    return x;
#elif defined(__riscv_flen) && __riscv_flen >= 32
    __asm__("fsqrt.s %0, %0" : "+f"(x));
    return x;
#else
    return ek_square_root_by_integers(x);
#endif
}

#endif /* EK_SQUARE_ROOT_H */
