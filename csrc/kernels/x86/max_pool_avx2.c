/* SPDX-License-Identifier: Apache-2.0
 *
 * Max pooling, 32 channels at a time, or 16 where there are fewer.
 */
#include <immintrin.h>

#define BYTES 32
typedef __m256i vbytes;
static inline vbytes v_lowest(void) { return _mm256_set1_epi8(-128); }
static inline vbytes v_load(const void *x) { return _mm256_loadu_si256((const __m256i *)x); }
static inline void v_store(void *y, vbytes a) { _mm256_storeu_si256((__m256i *)y, a); }
static inline vbytes v_max(vbytes a, vbytes b) { return _mm256_max_epi8(a, b); }

#include "max_pool.h"

int ek_max_pool_avx2_supports(const void *params)
{
    return ((const ek_pool_params *)params)->in.c >= BYTES;
}

void ek_max_pool_avx2(const void *params, const void *const in[], void *out, void *scratch,
                      const ek_range *range)
{
    if (range->ch_end - range->ch < BYTES)
        ek_max_pool_sse41(params, in, out, scratch, range);
    else
        max_pool(params, in[0], out, range);
}
