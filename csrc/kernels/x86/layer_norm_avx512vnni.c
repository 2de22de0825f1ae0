/* SPDX-License-Identifier: Apache-2.0
 *
 * Layer normalization, sixteen values at a time.
 */
#define EK_VECTOR_AVX512VNNI
#include "layer_norm.h"
