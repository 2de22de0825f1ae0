/* SPDX-License-Identifier: Apache-2.0
 *
 * Winograd's convolution with pmaddwd, which conv2d_sse41 has for its products, too: 6 tiles by 8
 * channels are summed in twelve registers.
 */
#include "vector.h"

#include "pairs.h"

#define HEIGHT 6
#define X_OFFSET 0

/* conv2d_sse41 multiplies as many. */
#define DIRECT_TAPS 18

static inline vint broadcast_pair(const int16_t *from)
{
    int32_t pair;
    memcpy(&pair, from, sizeof pair);
    return _mm_set1_epi32(pair);
}

#include "winograd.h"
