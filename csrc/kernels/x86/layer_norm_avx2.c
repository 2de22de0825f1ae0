/* SPDX-License-Identifier: Apache-2.0
 *
 * Layer normalization, eight values at a time.
 */
#define EK_VECTOR_AVX2
#include "layer_norm.h"
