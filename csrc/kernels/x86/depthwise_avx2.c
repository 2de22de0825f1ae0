/* SPDX-License-Identifier: Apache-2.0
 *
 * Depthwise convolution, eight channels at a time.
 */
#define EK_VECTOR_AVX2
#include "depthwise.h"
