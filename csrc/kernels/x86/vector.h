/* SPDX-License-Identifier: Apache-2.0
 *
 * The few vector operations that most kernels consist of: sixteen 32-bit lanes where the including
 * file defines EK_VECTOR_AVX512VNNI, eight where it defines EK_VECTOR_AVX2, else four with SSE4.1.
 * `_n` forms touch only the first `count` elements.
 */
#ifndef EK_VECTOR_H
#define EK_VECTOR_H

#include <string.h>

#if defined(EK_VECTOR_AVX512VNNI)

#include "requant_avx512vnni.h"

#define LANES 16
#define VECTOR_NAME(stem) stem##_avx512vnni
#define VECTOR_NAME_WITH(stem, suffix) stem##_avx512vnni_##suffix
typedef __m128i vbytes; /* LANES bytes */
typedef __m512i vint;
typedef __m512 vfloat;
typedef ek_requant_avx512vnni requant;
#define requant_init ek_requant_avx512vnni_init

static inline vbytes v_load_bytes(const int8_t *x)
{
    return _mm_loadu_si128((const __m128i *)(const void *)x);
}
static inline vint v_widen(vbytes a) { return _mm512_cvtepi8_epi32(a); }
/* (a0 b0 a1 b1 ...) as int16. */
static inline vint v_pair(vbytes a, vbytes b)
{
    return _mm512_cvtepi8_epi16(_mm256_set_m128i(_mm_unpackhi_epi8(a, b), _mm_unpacklo_epi8(a, b)));
}
static inline vint v_load(const int32_t *x) { return _mm512_loadu_si512(x); }
static inline vint v_load16(const int16_t *x) { return _mm512_loadu_si512(x); }
/* 2 * LANES bytes as int16. */
static inline vint v_load16_i8(const int8_t *x)
{
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)x));
}
static inline void v_store(void *y, vint a) { _mm512_storeu_si512(y, a); }
static inline void v_store_i8(int8_t *y, vint rounded, const requant *r)
{
    _mm_storeu_si128((__m128i *)(void *)y, ek_pack16_avx512vnni(rounded, r));
}
/* The quarters of `bytes`, LANES each, `step` bytes apart. */
static inline void v_store_quarters(int8_t *y, ptrdiff_t step, vint bytes)
{
    _mm_storeu_si128((__m128i *)(void *)y, _mm512_castsi512_si128(bytes));
    _mm_storeu_si128((__m128i *)(void *)(y + step), _mm512_extracti32x4_epi32(bytes, 1));
    _mm_storeu_si128((__m128i *)(void *)(y + 2 * step), _mm512_extracti32x4_epi32(bytes, 2));
    _mm_storeu_si128((__m128i *)(void *)(y + 3 * step), _mm512_extracti32x4_epi32(bytes, 3));
}
static inline vint v_set(int32_t a) { return _mm512_set1_epi32(a); }
static inline vint v_set16(int32_t a) { return _mm512_set1_epi16((short)a); }
static inline vint v_add16(vint a, vint b) { return _mm512_add_epi16(a, b); }
static inline vint v_sub16(vint a, vint b) { return _mm512_sub_epi16(a, b); }
static inline vint v_mul16(vint a, vint b) { return _mm512_mullo_epi16(a, b); }
static inline vint v_shl16(vint a, int n) { return _mm512_slli_epi16(a, (unsigned)n); }
/* Sums of two products of int16, exact. */
static inline vint v_madd(vint a, vint b) { return _mm512_madd_epi16(a, b); }
static inline vint v_add(vint a, vint b) { return _mm512_add_epi32(a, b); }
static inline vint v_sub(vint a, vint b) { return _mm512_sub_epi32(a, b); }
static inline vint v_mul(vint a, vint b) { return _mm512_mullo_epi32(a, b); }
static inline vint v_shl(vint a, int n) { return _mm512_slli_epi32(a, (unsigned)n); }
static inline vint v_sra(vint a, int n) { return _mm512_srai_epi32(a, (unsigned)n); }
static inline vfloat v_to_float(vint a) { return _mm512_cvtepi32_ps(a); }
static inline vint v_round(vfloat a, const requant *r) { return ek_round_avx512vnni(a, r); }
static inline vint v_requantize(vint acc, vfloat multiplier, const requant *r)
{
    return ek_requantize_avx512vnni(acc, multiplier, r);
}
/* Four vectors as int8, one after the other. */
static inline vint v_requantize4(const vint acc[4], vfloat multiplier, const requant *r)
{
    return ek_pack64(ek_requantize_top(acc[0], multiplier, r),
                     ek_requantize_top(acc[1], multiplier, r),
                     ek_requantize_top(acc[2], multiplier, r),
                     ek_requantize_top(acc[3], multiplier, r), r);
}
/* The same where all multipliers are below 1. */
static inline vint v_requantize4_small(const vint acc[4], vfloat multiplier, const requant *r)
{
    return ek_pack64(ek_requantize_small(acc[0], multiplier),
                     ek_requantize_small(acc[1], multiplier),
                     ek_requantize_small(acc[2], multiplier),
                     ek_requantize_small(acc[3], multiplier), r);
}
static inline vfloat v_setf(float a) { return _mm512_set1_ps(a); }
static inline vfloat v_loadf(const float *x) { return _mm512_loadu_ps(x); }
static inline void v_storef(float *y, vfloat a) { _mm512_storeu_ps(y, a); }
static inline vfloat v_addf(vfloat a, vfloat b) { return _mm512_add_ps(a, b); }
static inline vfloat v_mulf(vfloat a, vfloat b) { return _mm512_mul_ps(a, b); }
static inline vfloat v_divf(vfloat a, vfloat b) { return _mm512_div_ps(a, b); }
/* a where the sign bit of `mask` is set, else b. */
static inline vfloat v_selectf(vint mask, vfloat a, vfloat b)
{
    return _mm512_mask_mov_ps(b, _mm512_movepi32_mask(mask), a);
}
static inline __mmask16 v_first(int32_t count)
{
    return (__mmask16)(count >= LANES ? 0xFFFF : (1 << count) - 1);
}
static inline vbytes v_load_bytes_n(const int8_t *x, int32_t count)
{
    return _mm_maskz_loadu_epi8(v_first(count), x);
}
static inline void v_store_i8_n(int8_t *y, vint rounded, const requant *r, int32_t count)
{
    _mm_mask_storeu_epi8(y, v_first(count), ek_pack16_avx512vnni(rounded, r));
}
static inline vfloat v_loadf_n(const float *x, int32_t count)
{
    return _mm512_maskz_loadu_ps(v_first(count), x);
}
static inline void v_storef_n(float *y, vfloat a, int32_t count)
{
    _mm512_mask_storeu_ps(y, v_first(count), a);
}

#elif defined(EK_VECTOR_AVX2)

#include "requant_avx2.h"

#define LANES 8
#define VECTOR_NAME(stem) stem##_avx2
#define VECTOR_NAME_WITH(stem, suffix) stem##_avx2_##suffix
typedef __m128i vbytes; /* LANES bytes in its low part */
typedef __m256i vint;
typedef __m256 vfloat;
typedef ek_requant_avx2 requant;
#define requant_init ek_requant_avx2_init

static inline vbytes v_load_bytes(const int8_t *x)
{
    return _mm_loadl_epi64((const __m128i *)(const void *)x);
}
static inline vint v_widen(vbytes a) { return _mm256_cvtepi8_epi32(a); }
/* (a0 b0 a1 b1 ...) as int16. */
static inline vint v_pair(vbytes a, vbytes b)
{
    return _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(a, b));
}
static inline vint v_load(const int32_t *x)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)x);
}
static inline vint v_load16(const int16_t *x)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)x);
}
/* 2 * LANES bytes as int16. */
static inline vint v_load16_i8(const int8_t *x)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)x));
}
static inline void v_store(void *y, vint a) { _mm256_storeu_si256(y, a); }
static inline void v_store_i8(int8_t *y, vint rounded, const requant *r)
{
    _mm_storel_epi64((__m128i *)(void *)y, ek_pack8_avx2(rounded, r));
}
/* The quarters of `bytes`, LANES each, `step` bytes apart. The upper halves are stored as floats:
 * _mm_storeh_pd is an ordinary store of a double in GCC, which must be aligned. */
static inline void v_store_quarters(int8_t *y, ptrdiff_t step, vint bytes)
{
    const __m128i ab = _mm256_castsi256_si128(bytes), cd = _mm256_extracti128_si256(bytes, 1);
    _mm_storel_epi64((__m128i *)(void *)y, ab);
    _mm_storeh_pi((__m64 *)(void *)(y + step), _mm_castsi128_ps(ab));
    _mm_storel_epi64((__m128i *)(void *)(y + 2 * step), cd);
    _mm_storeh_pi((__m64 *)(void *)(y + 3 * step), _mm_castsi128_ps(cd));
}
static inline vint v_set(int32_t a) { return _mm256_set1_epi32(a); }
static inline vint v_set16(int32_t a) { return _mm256_set1_epi16((short)a); }
static inline vint v_add16(vint a, vint b) { return _mm256_add_epi16(a, b); }
static inline vint v_sub16(vint a, vint b) { return _mm256_sub_epi16(a, b); }
static inline vint v_mul16(vint a, vint b) { return _mm256_mullo_epi16(a, b); }
static inline vint v_shl16(vint a, int n) { return _mm256_slli_epi16(a, n); }
static inline vint v_and(vint a, vint b) { return _mm256_and_si256(a, b); }
/* Sums of two products of int16, exact. */
static inline vint v_madd(vint a, vint b) { return _mm256_madd_epi16(a, b); }
static inline vint v_add(vint a, vint b) { return _mm256_add_epi32(a, b); }
static inline vint v_sub(vint a, vint b) { return _mm256_sub_epi32(a, b); }
static inline vint v_mul(vint a, vint b) { return _mm256_mullo_epi32(a, b); }
static inline vint v_shl(vint a, int n) { return _mm256_slli_epi32(a, n); }
static inline vint v_sra(vint a, int n) { return _mm256_srai_epi32(a, n); }
static inline vfloat v_to_float(vint a) { return _mm256_cvtepi32_ps(a); }
static inline vint v_round(vfloat a, const requant *r) { return ek_round_avx2(a, r); }
static inline vint v_requantize(vint acc, vfloat multiplier, const requant *r)
{
    return ek_requantize_avx2(acc, multiplier, r);
}
/* Four vectors as int8, one after the other. */
static inline vint v_requantize4(const vint acc[4], vfloat multiplier, const requant *r)
{
    return ek_pack32_avx2(v_requantize(acc[0], multiplier, r),
                          v_requantize(acc[1], multiplier, r),
                          v_requantize(acc[2], multiplier, r),
                          v_requantize(acc[3], multiplier, r), r);
}
static inline vfloat v_limit_top(vfloat a, const requant *r) { return ek_limit_top_avx2(a, r); }
static inline vint v_pack_any4(vfloat a, vfloat b, vfloat c, vfloat d, const requant *r)
{
    return ek_pack32_any_avx2(a, b, c, d, r);
}
static inline vint v_clamp_bytes(vint a, const requant *r) { return ek_clamp_bytes_avx2(a, r); }
static inline vfloat v_setf(float a) { return _mm256_set1_ps(a); }
static inline vfloat v_loadf(const float *x) { return _mm256_loadu_ps(x); }
static inline void v_storef(float *y, vfloat a) { _mm256_storeu_ps(y, a); }
static inline vfloat v_addf(vfloat a, vfloat b) { return _mm256_add_ps(a, b); }
static inline vfloat v_subf(vfloat a, vfloat b) { return _mm256_sub_ps(a, b); }
static inline vfloat v_mulf(vfloat a, vfloat b) { return _mm256_mul_ps(a, b); }
static inline vfloat v_divf(vfloat a, vfloat b) { return _mm256_div_ps(a, b); }
/* a where the sign bit of `mask` is set, else b. */
static inline vfloat v_selectf(vint mask, vfloat a, vfloat b)
{
    return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(mask));
}

#else

#include "requant_sse41.h"

#define LANES 4
#define VECTOR_NAME(stem) stem##_sse41
#define VECTOR_NAME_WITH(stem, suffix) stem##_sse41_##suffix
typedef __m128i vbytes; /* LANES bytes in its low part */
typedef __m128i vint;
typedef __m128 vfloat;
typedef ek_requant_sse41 requant;
#define requant_init ek_requant_sse41_init

static inline vbytes v_load_bytes(const int8_t *x)
{
    int32_t bytes;
    memcpy(&bytes, x, 4);
    return _mm_cvtsi32_si128(bytes);
}
static inline vint v_widen(vbytes a) { return _mm_cvtepi8_epi32(a); }
/* (a0 b0 a1 b1 ...) as int16. */
static inline vint v_pair(vbytes a, vbytes b) { return _mm_cvtepi8_epi16(_mm_unpacklo_epi8(a, b)); }
static inline vint v_load(const int32_t *x)
{
    return _mm_loadu_si128((const __m128i *)(const void *)x);
}
static inline vint v_load16(const int16_t *x)
{
    return _mm_loadu_si128((const __m128i *)(const void *)x);
}
/* 2 * LANES bytes as int16. */
static inline vint v_load16_i8(const int8_t *x)
{
    return _mm_cvtepi8_epi16(_mm_loadl_epi64((const __m128i *)(const void *)x));
}
static inline void v_store(void *y, vint a) { _mm_storeu_si128(y, a); }
static inline void v_store_i8(int8_t *y, vint rounded, const requant *r)
{
    const int32_t bytes = _mm_cvtsi128_si32(ek_pack16_sse41(rounded, rounded, rounded, rounded, r));
    memcpy(y, &bytes, 4);
}
/* The quarters of `bytes`, LANES each, `step` bytes apart. */
static inline void v_store_quarters(int8_t *y, ptrdiff_t step, vint bytes)
{
    const int32_t quarters[4] = {_mm_cvtsi128_si32(bytes), _mm_extract_epi32(bytes, 1),
                                 _mm_extract_epi32(bytes, 2), _mm_extract_epi32(bytes, 3)};
    for (int i = 0; i < 4; i++)
        memcpy(y + i * step, &quarters[i], sizeof quarters[i]);
}
static inline vint v_set(int32_t a) { return _mm_set1_epi32(a); }
static inline vint v_set16(int32_t a) { return _mm_set1_epi16((short)a); }
static inline vint v_add16(vint a, vint b) { return _mm_add_epi16(a, b); }
static inline vint v_sub16(vint a, vint b) { return _mm_sub_epi16(a, b); }
static inline vint v_mul16(vint a, vint b) { return _mm_mullo_epi16(a, b); }
static inline vint v_shl16(vint a, int n) { return _mm_slli_epi16(a, n); }
static inline vint v_and(vint a, vint b) { return _mm_and_si128(a, b); }
/* Sums of two products of int16, exact. */
static inline vint v_madd(vint a, vint b) { return _mm_madd_epi16(a, b); }
static inline vint v_add(vint a, vint b) { return _mm_add_epi32(a, b); }
static inline vint v_sub(vint a, vint b) { return _mm_sub_epi32(a, b); }
static inline vint v_mul(vint a, vint b) { return _mm_mullo_epi32(a, b); }
static inline vint v_shl(vint a, int n) { return _mm_slli_epi32(a, n); }
static inline vint v_sra(vint a, int n) { return _mm_srai_epi32(a, n); }
static inline vfloat v_to_float(vint a) { return _mm_cvtepi32_ps(a); }
static inline vint v_round(vfloat a, const requant *r) { return ek_round_sse41(a, r); }
static inline vint v_requantize(vint acc, vfloat multiplier, const requant *r)
{
    return ek_requantize_sse41(acc, multiplier, r);
}
/* Four vectors as int8, one after the other. */
static inline vint v_requantize4(const vint acc[4], vfloat multiplier, const requant *r)
{
    return ek_pack16_sse41(v_requantize(acc[0], multiplier, r),
                           v_requantize(acc[1], multiplier, r),
                           v_requantize(acc[2], multiplier, r),
                           v_requantize(acc[3], multiplier, r), r);
}
static inline vfloat v_limit_top(vfloat a, const requant *r) { return ek_limit_top_sse41(a, r); }
static inline vint v_pack_any4(vfloat a, vfloat b, vfloat c, vfloat d, const requant *r)
{
    return ek_pack16_any_sse41(a, b, c, d, r);
}
static inline vint v_clamp_bytes(vint a, const requant *r) { return ek_clamp_bytes_sse41(a, r); }
static inline vfloat v_setf(float a) { return _mm_set1_ps(a); }
static inline vfloat v_loadf(const float *x) { return _mm_loadu_ps(x); }
static inline void v_storef(float *y, vfloat a) { _mm_storeu_ps(y, a); }
static inline vfloat v_addf(vfloat a, vfloat b) { return _mm_add_ps(a, b); }
static inline vfloat v_subf(vfloat a, vfloat b) { return _mm_sub_ps(a, b); }
static inline vfloat v_mulf(vfloat a, vfloat b) { return _mm_mul_ps(a, b); }
static inline vfloat v_divf(vfloat a, vfloat b) { return _mm_div_ps(a, b); }
static inline vfloat v_selectf(vint mask, vfloat a, vfloat b)
{
    return _mm_blendv_ps(b, a, _mm_castsi128_ps(mask));
}

#endif

#ifndef EK_VECTOR_AVX512VNNI

/* Small multipliers make no difference here. */
static inline vint v_requantize4_small(const vint acc[4], vfloat multiplier, const requant *r)
{
    return v_requantize4(acc, multiplier, r);
}

/* The sum of all lanes, which fits. */
static inline int32_t v_sum(vint a)
{
    int32_t lanes[LANES], sum = 0;
    memcpy(lanes, &a, sizeof lanes);
    for (int i = 0; i < LANES; i++)
        sum += lanes[i];
    return sum;
}

static inline vbytes v_load_bytes_n(const int8_t *x, int32_t count)
{
    int8_t buffer[LANES] = {0};
    if (count >= LANES)
        return v_load_bytes(x);
    memcpy(buffer, x, (size_t)count);
    return v_load_bytes(buffer);
}

static inline void v_store_i8_n(int8_t *y, vint rounded, const requant *r, int32_t count)
{
    int8_t buffer[LANES];
    if (count >= LANES) {
        v_store_i8(y, rounded, r);
    } else {
        v_store_i8(buffer, rounded, r);
        memcpy(y, buffer, (size_t)count);
    }
}

static inline vfloat v_loadf_n(const float *x, int32_t count)
{
    float buffer[LANES] = {0};
    if (count >= LANES)
        return v_loadf(x);
    memcpy(buffer, x, (size_t)count * sizeof *x);
    return v_loadf(buffer);
}

static inline void v_storef_n(float *y, vfloat a, int32_t count)
{
    float buffer[LANES];
    if (count >= LANES) {
        v_storef(y, a);
    } else {
        v_storef(buffer, a);
        memcpy(y, buffer, (size_t)count * sizeof *y);
    }
}

#endif

static inline vint v_load_i8(const int8_t *x) { return v_widen(v_load_bytes(x)); }

static inline vint v_load_i8_n(const int8_t *x, int32_t count)
{
    return v_widen(v_load_bytes_n(x, count));
}

#endif /* EK_VECTOR_H */
