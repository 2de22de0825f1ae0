/* SPDX-License-Identifier: Apache-2.0
 *
 * float32 to int8, sixteen values at a time.
 */
#define EK_VECTOR_AVX512VNNI
#include "quantize.h"
