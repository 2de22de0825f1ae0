/* SPDX-License-Identifier: Apache-2.0
 *
 * Product of two activations, eight columns at a time.
 */
#define EK_VECTOR_AVX2
#include "matmul.h"
