/* SPDX-License-Identifier: Apache-2.0
 *
 * Table look-up, 64 bytes at a time: the table is four vectors, and each half of it one
 * permutation.
 */
#include <immintrin.h>

#include "../kernels.h"

#define BYTES 64

/* The table by the byte itself: [0] and [1] for 0 to 127, [2] and [3] for -128 to -1. */
typedef struct lut_vectors {
    __m512i part[4];
} lut_vectors;

/* vpermi2b takes the lowest seven bits of an index. */
static inline __m512i look_up(const lut_vectors *table, __m512i x)
{
    const __m512i positive = _mm512_permutex2var_epi8(table->part[0], x, table->part[1]);
    const __m512i negative = _mm512_permutex2var_epi8(table->part[2], x, table->part[3]);
    return _mm512_mask_mov_epi8(positive, _mm512_movepi8_mask(x), negative);
}

void ek_lut_avx512vbmi(const void *params, const void *const in[], void *out, void *scratch,
                       const ek_range *range)
{
    const ek_lut_params *p = params;
    const int8_t *x = in[0];
    int8_t *y = out;
    lut_vectors table;
    int32_t i = range->ch;
    (void)scratch;
    for (int part = 0; part < 4; part++)
        table.part[part] = _mm512_loadu_si512(p->table + (part ^ 2) * BYTES);
    for (; i + BYTES <= range->ch_end; i += BYTES)
        _mm512_storeu_si512(y + i, look_up(&table, _mm512_loadu_si512(x + i)));
    if (i < range->ch_end) {
        const __mmask64 rest = ((__mmask64)1 << (range->ch_end - i)) - 1;
        _mm512_mask_storeu_epi8(y + i, rest,
                                look_up(&table, _mm512_maskz_loadu_epi8(rest, x + i)));
    }
}
