/* SPDX-License-Identifier: Apache-2.0
 *
 * Max pooling, 16 channels at a time.
 */
#include <smmintrin.h>

#define BYTES 16
typedef __m128i vbytes;
static inline vbytes v_lowest(void) { return _mm_set1_epi8(-128); }
static inline vbytes v_load(const void *x) { return _mm_loadu_si128((const __m128i *)x); }
static inline void v_store(void *y, vbytes a) { _mm_storeu_si128((__m128i *)y, a); }
static inline vbytes v_max(vbytes a, vbytes b) { return _mm_max_epi8(a, b); }

#include "max_pool.h"

int ek_max_pool_sse41_supports(const void *params)
{
    return ((const ek_pool_params *)params)->in.c >= BYTES;
}

void ek_max_pool_sse41(const void *params, const void *const in[], void *out, void *scratch,
                       const ek_range *range)
{
    if (range->ch_end - range->ch < BYTES)
        ek_max_pool_scalar(params, in, out, scratch, range);
    else
        max_pool(params, in[0], out, range);
}
