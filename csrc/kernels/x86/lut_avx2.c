/* SPDX-License-Identifier: Apache-2.0
 *
 * Table look-up, 32 bytes at a time: sixteen shuffles of 16 entries each. A shuffle gives zero
 * where the index has its top bit set, and a saturating addition sets it wherever another 16
 * entries are meant.
 */
#include <immintrin.h>

#include "../kernels.h"

#define BYTES 32

static inline __m256i look_up(const int8_t *table, __m256i x)
{
    const __m256i sixteen = _mm256_set1_epi8(16), outside = _mm256_set1_epi8(0x70);
    __m256i index = _mm256_xor_si256(x, _mm256_set1_epi8(-128));
    __m256i y = _mm256_setzero_si256();
    for (int i = 0; i < 256; i += 16) {
        const __m128i entries = _mm_loadu_si128((const __m128i *)(const void *)(table + i));
        const __m256i part = _mm256_broadcastsi128_si256(entries);
        y = _mm256_or_si256(y, _mm256_shuffle_epi8(part, _mm256_adds_epu8(index, outside)));
        index = _mm256_sub_epi8(index, sixteen);
    }
    return y;
}

void ek_lut_avx2(const void *params, const void *const in[], void *out, void *scratch,
                 const ek_range *range)
{
    const ek_lut_params *p = params;
    ek_range rest = *range;
    for (; rest.ch_end - rest.ch >= BYTES; rest.ch += BYTES) {
        const __m256i x = _mm256_loadu_si256(
            (const __m256i *)(const void *)((const int8_t *)in[0] + rest.ch));
        _mm256_storeu_si256((__m256i *)(void *)((int8_t *)out + rest.ch), look_up(p->table, x));
    }
    if (rest.ch < rest.ch_end)
        ek_lut_scalar(params, in, out, scratch, &rest);
}
