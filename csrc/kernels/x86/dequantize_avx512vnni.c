/* SPDX-License-Identifier: Apache-2.0
 *
 * int8 to float32, sixteen values at a time.
 */
#define EK_VECTOR_AVX512VNNI
#include "dequantize.h"
