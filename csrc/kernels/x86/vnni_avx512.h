/* SPDX-License-Identifier: Apache-2.0
 *
 * What the kernels share that multiply with vpdpbusd: four products of an unsigned and a signed
 * byte in each 32-bit lane. Activations are made unsigned by adding 128, which flips their top bit.
 */
#ifndef EK_VNNI_AVX512_H
#define EK_VNNI_AVX512_H

#include <string.h>

#include "requant_avx512vnni.h"

typedef ek_requant_avx512vnni requant;

#define INLINE static inline __attribute__((always_inline))

/* Loops over registers must disappear; without this neither compiler unrolls all of them. */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* acc + u * s. In assembly, because GCC otherwise moves accumulators around the instruction and
 * spills them. */
INLINE __m512i dot4(__m512i acc, __m512i u, __m512i s)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(u), "v"(s));
    return acc;
}

/* The same with 64 signed bytes in memory. */
INLINE __m512i dot4_at(__m512i acc, __m512i u, const int8_t *s)
{
    typedef int8_t bytes[64];
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(u), "m"(*(const bytes *)(const void *)s));
    return acc;
}

INLINE __m512i load64(const void *from)
{
    return _mm512_loadu_si512(from);
}

/* Four bytes, in every lane. In assembly, because clang takes the instruction for floats, of which
 * Zen 4 starts half as many in a cycle. */
INLINE __m512i broadcast4(const uint8_t *from)
{
    typedef uint8_t bytes[4];
    __m512i v;
    __asm__("vpbroadcastd %1, %0" : "=v"(v) : "m"(*(const bytes *)(const void *)from));
    return v;
}

/* The lowest `count` bits; 0 <= count. */
INLINE uint64_t low_bits(int32_t count)
{
    return count >= 64 ? ~(uint64_t)0 : ((uint64_t)1 << count) - 1;
}

/* `count` activations as unsigned bytes. */
INLINE void copy_unsigned(uint8_t *to, const int8_t *from, ptrdiff_t count)
{
    const __m512i flip = _mm512_set1_epi8(-128);
    ptrdiff_t i = 0;
    for (; i + 64 <= count; i += 64)
        _mm512_storeu_si512(to + i, _mm512_xor_si512(load64(from + i), flip));
    if (i < count) {
        const __mmask64 rest = low_bits((int32_t)(count - i));
        _mm512_mask_storeu_epi8(
            to + i, rest, _mm512_xor_si512(_mm512_maskz_loadu_epi8(rest, from + i), flip));
    }
}

/* `count` times the activation `value` as an unsigned byte. */
INLINE void fill_unsigned(uint8_t *to, int32_t value, ptrdiff_t count)
{
    memset(to, value + 128, (size_t)count);
}

#endif /* EK_VNNI_AVX512_H */
