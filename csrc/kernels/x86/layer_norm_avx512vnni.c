/* SPDX-License-Identifier: Apache-2.0
 *
 * Layer normalization, 64 values at a time. A row's steps wait for each other; so each is taken for
 * several rows before the next one.
 */
#include "../kernels.h"
#include "../layer_norm.h"
#include "../window.h"
#include "vnni_avx512.h"

#define BYTES 64
#define ROWS 8

/* Adds 64 elements and their squares to lanes; see layer_norm.h for the ranges. */
INLINE void add_to_sums(__m512i v, __m512i *sum, __m512i *squares)
{
    const __m512i low = _mm512_cvtepi8_epi16(_mm512_castsi512_si256(v));
    const __m512i high = _mm512_cvtepi8_epi16(_mm512_extracti64x4_epi64(v, 1));
    *sum = dot4(*sum, _mm512_set1_epi8(1), v);
    *squares = _mm512_dpwssd_epi32(*squares, low, low);
    *squares = _mm512_dpwssd_epi32(*squares, high, high);
}

static float inverse_deviation(const ek_layer_norm_params *p, const int8_t *x, int32_t *sum)
{
    __m512i sums = _mm512_setzero_si512(), squares = _mm512_setzero_si512();
    int32_t i = 0;
    for (; i + BYTES <= p->c; i += BYTES)
        add_to_sums(load64(x + i), &sums, &squares);
    if (i < p->c)
        add_to_sums(_mm512_maskz_loadu_epi8(low_bits(p->c - i), x + i), &sums, &squares);
    *sum = _mm512_reduce_add_epi32(sums);
    return ek_inverse_deviation(p->c, *sum, _mm512_reduce_add_epi32(squares), p->epsilon);
}

/* What all elements of a row are computed with. */
typedef struct row_factors {
    __m512 count, sum, k;
} row_factors;

/* Sixteen elements; gains and offsets where `mask` has a bit. count * x and the difference are
 * integers below 2^24: exact. */
INLINE __m512i normalize(const ek_layer_norm_params *p, const row_factors *f, __m128i x, int32_t i,
                         __mmask16 mask, const requant *r)
{
    const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(x)), f->count);
    const __m512 normal = _mm512_mul_ps(_mm512_sub_ps(scaled, f->sum), f->k);
    const __m512 product = _mm512_mul_ps(normal, _mm512_maskz_loadu_ps(mask, p->gain + i));
    return ek_round_top(_mm512_add_ps(product, _mm512_maskz_loadu_ps(mask, p->offset + i)), r);
}

/* 64 elements from `i` on. */
INLINE __m512i normalize64(const ek_layer_norm_params *p, const row_factors *f, __m512i x,
                           int32_t i, __mmask64 mask, const requant *r)
{
    const __m512i a = normalize(p, f, _mm512_castsi512_si128(x), i, (__mmask16)mask, r);
    const __m512i b =
        normalize(p, f, _mm512_extracti32x4_epi32(x, 1), i + 16, (__mmask16)(mask >> 16), r);
    const __m512i c =
        normalize(p, f, _mm512_extracti32x4_epi32(x, 2), i + 32, (__mmask16)(mask >> 32), r);
    const __m512i d =
        normalize(p, f, _mm512_extracti32x4_epi32(x, 3), i + 48, (__mmask16)(mask >> 48), r);
    return ek_pack64(a, b, c, d, r);
}

static void normalize_row(const ek_layer_norm_params *p, const row_factors *f, const int8_t *x,
                          int8_t *y, const requant *r)
{
    int32_t i = 0;
    for (; i + BYTES <= p->c; i += BYTES)
        _mm512_storeu_si512(y + i, normalize64(p, f, load64(x + i), i, ~(__mmask64)0, r));
    if (i < p->c) {
        const __mmask64 rest = low_bits(p->c - i);
        const __m512i some = _mm512_maskz_loadu_epi8(rest, x + i);
        _mm512_mask_storeu_epi8(y + i, rest, normalize64(p, f, some, i, rest, r));
    }
}

/* Up to ROWS rows. */
static void normalize_rows(const ek_layer_norm_params *p, const int8_t *x, int8_t *y,
                           int32_t rows, const requant *r)
{
    int32_t sum[ROWS];
    float k[ROWS];
    for (int32_t row = 0; row < rows; row++)
        k[row] = inverse_deviation(p, x + (ptrdiff_t)row * p->c, &sum[row]);
    for (int32_t row = 0; row < rows; row++, x += p->c, y += p->c) {
        const row_factors f = {_mm512_set1_ps((float)p->c), _mm512_set1_ps((float)sum[row]),
                               _mm512_set1_ps(k[row])};
        normalize_row(p, &f, x, y, r);
    }
}

void ek_layer_norm_avx512vnni(const void *params, const void *const in[], void *out,
                              void *scratch, const ek_range *range)
{
    const ek_layer_norm_params *p = params;
    const requant r = ek_requant_avx512vnni_init(&p->clamp);
    (void)scratch;

    for (int32_t row = range->row; row < range->row_end; row += ROWS) {
        const ptrdiff_t at = (ptrdiff_t)row * p->c;
        normalize_rows(p, (const int8_t *)in[0] + at, (int8_t *)out + at,
                       ek_min(range->row_end - row, ROWS), &r);
    }
}
