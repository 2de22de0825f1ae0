/* SPDX-License-Identifier: Apache-2.0
 *
 * Elementwise product with broadcasting, eight values at a time.
 */
#define EK_VECTOR_AVX2
#include "mul.h"
