/* SPDX-License-Identifier: Apache-2.0
 *
 * What kernels share that multiply with AVX-VNNI's vpdpbusd: four products of an unsigned and a
 * signed byte in each 32-bit lane of 256 bits. Activations are made unsigned by adding 128, which
 * flips their top bit.
 */
#ifndef EK_VNNI_AVX2_H
#define EK_VNNI_AVX2_H

#include <string.h>

#include "requant_avx2.h"

typedef ek_requant_avx2 requant;

#define INLINE static inline __attribute__((always_inline))

/* Loops over registers must disappear. */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

/* Assemblers would rather take AVX-512's encoding. Tests leave the prefix out, to run the rest
 * where only that one exists. */
#define VPDPBUSD "%{vex%} vpdpbusd"

/* acc + u * s. In assembly, because GCC otherwise moves accumulators around the instruction and
 * spills them. */
INLINE __m256i dot4(__m256i acc, __m256i u, __m256i s)
{
    __asm__(VPDPBUSD " %2, %1, %0" : "+x"(acc) : "x"(u), "x"(s));
    return acc;
}

/* The same with 32 signed bytes in memory. */
INLINE __m256i dot4_at(__m256i acc, __m256i u, const int8_t *s)
{
    typedef int8_t bytes[32];
    __asm__(VPDPBUSD " %2, %1, %0" : "+x"(acc) : "x"(u), "m"(*(const bytes *)(const void *)s));
    return acc;
}

INLINE __m256i load32(const void *from)
{
    return _mm256_loadu_si256((const __m256i *)from);
}

INLINE void store32(void *to, __m256i v)
{
    _mm256_storeu_si256((__m256i *)to, v);
}

/* Four bytes, in every lane. */
INLINE __m256i broadcast4(const uint8_t *from)
{
    int32_t bytes;
    memcpy(&bytes, from, sizeof bytes);
    return _mm256_set1_epi32(bytes);
}

/* The lowest `count` bits; 0 <= count. */
INLINE uint64_t low_bits(int32_t count)
{
    return count >= 64 ? ~(uint64_t)0 : ((uint64_t)1 << count) - 1;
}

/* `count` activations as unsigned bytes. */
INLINE void copy_unsigned(uint8_t *to, const int8_t *from, ptrdiff_t count)
{
    const __m256i flip = _mm256_set1_epi8(-128);
    ptrdiff_t i = 0;
    for (; i + 32 <= count; i += 32)
        store32(to + i, _mm256_xor_si256(load32(from + i), flip));
    for (; i + 8 <= count; i += 8) {
        uint64_t bytes;
        memcpy(&bytes, from + i, sizeof bytes);
        bytes ^= 0x8080808080808080u;
        memcpy(to + i, &bytes, sizeof bytes);
    }
    for (; i < count; i++)
        to[i] = (uint8_t)(from[i] + 128);
}

/* `count` times the activation `value` as an unsigned byte. */
INLINE void fill_unsigned(uint8_t *to, int32_t value, ptrdiff_t count)
{
    memset(to, value + 128, (size_t)count);
}

#endif /* EK_VNNI_AVX2_H */
