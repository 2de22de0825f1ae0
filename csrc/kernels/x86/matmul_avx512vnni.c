/* SPDX-License-Identifier: Apache-2.0
 *
 * Product of two activations, sixteen columns at a time.
 */
#define EK_VECTOR_AVX512VNNI
#include "matmul.h"
