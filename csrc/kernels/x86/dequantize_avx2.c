/* SPDX-License-Identifier: Apache-2.0
 *
 * int8 to float32, eight values at a time.
 */
#define EK_VECTOR_AVX2
#include "dequantize.h"
