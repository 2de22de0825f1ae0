/* SPDX-License-Identifier: Apache-2.0
 *
 * Winograd's convolution with pmaddwd, which conv2d_avx2 has for its products, too: 6 tiles by 16
 * channels are summed in twelve registers.
 */
#define EK_VECTOR_AVX2
#include "vector.h"

#define HEIGHT 6
#define X_OFFSET 0

/* conv2d_avx2 multiplies as many. Costs are those of winograd_avx512vnni.c. */
#define DIRECT_TAPS 18
#define OUTPUT_COST 400
#define INPUT_COST 264
#define WEIGHTS_COST 150

#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

static inline void v_store(void *to, vint v) { _mm256_storeu_si256(to, v); }
static inline vint v_load_any(const void *from) { return _mm256_loadu_si256(from); }
static inline vint v_load_pairs(const int16_t *from) { return v_load_any(from); }
static inline vint v_add16(vint a, vint b) { return _mm256_add_epi16(a, b); }
static inline vint v_mul16(vint a, vint b) { return _mm256_mullo_epi16(a, b); }
static inline vint v_shl16(vint a, int n) { return _mm256_slli_epi16(a, n); }
static inline vint v_shl(vint a, int n) { return _mm256_slli_epi32(a, n); }
static inline vint v_sra(vint a, int n) { return _mm256_srai_epi32(a, n); }

static inline vint v_load_widened(const int8_t *x)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)x));
}

/* The first (half 0) or the last two (1) of each four bytes, as int16. */
static inline vint v_half(const int8_t *w, const int half)
{
    const vint order = _mm256_set_epi32(0x0F0D0E0C, 0x0B090A08, 0x07050604, 0x03010200, 0x0F0D0E0C,
                                        0x0B090A08, 0x07050604, 0x03010200);
    const vint mixed = _mm256_shuffle_epi8(v_load_any(w), order);
    return _mm256_srai_epi16(half == 0 ? _mm256_slli_epi16(mixed, 8) : mixed, 8);
}

/* The addition is spelled in assembly because GCC otherwise moves all products of a step ahead of
 * all sums, runs out of registers and spills the accumulators. */
static inline vint multiply_add(vint acc, vint x, vint w)
{
    const vint products = _mm256_madd_epi16(x, w);
    __asm__ volatile("vpaddd %1, %0, %0" : "+x"(acc) : "x"(products));
    return acc;
}

static inline vint broadcast_pair(const int16_t *from)
{
    typedef int16_t pair[2];
    vint v;
    __asm__("vpbroadcastd %1, %0" : "=x"(v) : "m"(*(const pair *)(const void *)from));
    return v;
}

static inline vint finish_row(const vint acc[4], vfloat multiplier, const requant *r)
{
    return ek_pack32_avx2(ek_requantize_avx2(acc[0], multiplier, r),
                          ek_requantize_avx2(acc[1], multiplier, r),
                          ek_requantize_avx2(acc[2], multiplier, r),
                          ek_requantize_avx2(acc[3], multiplier, r), r);
}

#include "winograd.h"

int ek_winograd_avx2_supports(const void *params)
{
    return winograd_fits(params) && winograd_pays(params);
}

size_t ek_winograd_avx2_scratch(const void *params)
{
    return winograd_scratch(params);
}

void ek_winograd_avx2(const void *params, const void *const in[], void *out, void *scratch,
                      const ek_range *range)
{
    const ek_conv_params *p = params;
    const requant r = ek_requant_avx2_init(&p->clamp);
    winograd_range(p, in[0], out, scratch, range, &r);
}
