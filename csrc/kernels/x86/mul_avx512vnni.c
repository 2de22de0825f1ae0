/* SPDX-License-Identifier: Apache-2.0
 *
 * Elementwise product with broadcasting, sixteen values at a time.
 */
#define EK_VECTOR_AVX512VNNI
#include "mul.h"
