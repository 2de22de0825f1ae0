/* SPDX-License-Identifier: Apache-2.0
 *
 * Max pooling, 64 channels at a time, or 32 where there are fewer.
 */
#include <immintrin.h>

#define BYTES 64
typedef __m512i vbytes;
static inline vbytes v_lowest(void) { return _mm512_set1_epi8(-128); }
static inline vbytes v_load(const void *x) { return _mm512_loadu_si512(x); }
static inline void v_store(void *y, vbytes a) { _mm512_storeu_si512(y, a); }
static inline vbytes v_max(vbytes a, vbytes b) { return _mm512_max_epi8(a, b); }

#include "max_pool.h"

int ek_max_pool_avx512vnni_supports(const void *params)
{
    return ((const ek_pool_params *)params)->in.c >= BYTES;
}

void ek_max_pool_avx512vnni(const void *params, const void *const in[], void *out, void *scratch,
                            const ek_range *range)
{
    if (range->ch_end - range->ch < BYTES)
        ek_max_pool_avx2(params, in, out, scratch, range);
    else
        max_pool(params, in[0], out, range);
}
