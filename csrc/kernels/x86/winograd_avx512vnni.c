/* SPDX-License-Identifier: Apache-2.0
 *
 * Winograd's convolution with vpdpwssd, which adds pairs of products of int16: 7 tiles by 32
 * channels are summed in 14 registers. More would fit, but not their 36 products in a first level
 * cache.
 */
#define EK_VECTOR_AVX512VNNI
#include "vector.h"

#define HEIGHT 7
#define X_OFFSET 128 /* in the sums that the kernels of this set start from */

/* vpdpbusd multiplies twice as many. Costs are cycles of Zen 4, rounded up. */
#define DIRECT_TAPS 9
#define OUTPUT_COST 400
#define INPUT_COST 264
#define WEIGHTS_COST 150

#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

static inline void v_store(void *to, vint v) { _mm512_storeu_si512(to, v); }
static inline vint v_load_pairs(const int16_t *from) { return _mm512_loadu_si512(from); }
static inline vint v_add16(vint a, vint b) { return _mm512_add_epi16(a, b); }
static inline vint v_mul16(vint a, vint b) { return _mm512_mullo_epi16(a, b); }
static inline vint v_shl16(vint a, unsigned n) { return _mm512_slli_epi16(a, n); }
static inline vint v_shl(vint a, unsigned n) { return _mm512_slli_epi32(a, n); }
static inline vint v_sra(vint a, unsigned n) { return _mm512_srai_epi32(a, n); }

static inline vint v_load_widened(const int8_t *x)
{
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)x));
}

/* The first (half 0) or the last two (1) of each four bytes, as int16. */
static inline vint v_half(const int8_t *w, const int half)
{
    const vint mixed = _mm512_shuffle_epi8(
        _mm512_loadu_si512(w), _mm512_set4_epi32(0x0F0D0E0C, 0x0B090A08, 0x07050604, 0x03010200));
    return _mm512_srai_epi16(half == 0 ? _mm512_slli_epi16(mixed, 8) : mixed, 8);
}

/* In assembly, because GCC otherwise moves accumulators around the instruction and spills them. */
static inline vint multiply_add(vint acc, vint x, vint w)
{
    __asm__("vpdpwssd %2, %1, %0" : "+v"(acc) : "v"(x), "v"(w));
    return acc;
}

/* In assembly, because clang takes the instruction for floats, of which Zen 4 starts half as many
 * in a cycle. */
static inline vint broadcast_pair(const int16_t *from)
{
    typedef int16_t pair[2];
    vint v;
    __asm__("vpbroadcastd %1, %0" : "=v"(v) : "m"(*(const pair *)(const void *)from));
    return v;
}

static inline vint finish_row(const vint acc[4], vfloat multiplier, const requant *r)
{
    return ek_pack64(ek_requantize_top(acc[0], multiplier, r),
                     ek_requantize_top(acc[1], multiplier, r),
                     ek_requantize_top(acc[2], multiplier, r),
                     ek_requantize_top(acc[3], multiplier, r), r);
}

#include "winograd.h"

int ek_winograd_avx512vnni_supports(const void *params)
{
    return winograd_fits(params) && winograd_pays(params);
}

size_t ek_winograd_avx512vnni_scratch(const void *params)
{
    return winograd_scratch(params);
}

void ek_winograd_avx512vnni(const void *params, const void *const in[], void *out, void *scratch,
                            const ek_range *range)
{
    const ek_conv_params *p = params;
    const requant r = ek_requant_avx512vnni_init(&p->clamp);
    winograd_range(p, in[0], out, scratch, range, &r);
}
