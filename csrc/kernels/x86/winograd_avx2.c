/* SPDX-License-Identifier: Apache-2.0
 *
 * Winograd's convolution with pmaddwd, which conv2d_avx2 has for its products, too: 6 tiles by 16
 * channels are summed in twelve registers.
 */
#define EK_VECTOR_AVX2
#include "vector.h"

#include "pairs.h"

#define HEIGHT 6
#define X_OFFSET 0

/* conv2d_avx2 multiplies as many. */
#define DIRECT_TAPS 18

static inline vint broadcast_pair(const int16_t *from)
{
    typedef int16_t pair[2];
    vint v;
    __asm__("vpbroadcastd %1, %0" : "=x"(v) : "m"(*(const pair *)(const void *)from));
    return v;
}

#include "winograd.h"
