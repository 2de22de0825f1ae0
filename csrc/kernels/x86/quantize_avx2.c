/* SPDX-License-Identifier: Apache-2.0
 *
 * float32 to int8, eight values at a time.
 */
#define EK_VECTOR_AVX2
#define EK_QUANTIZE_KERNEL
#include "quantize.h"
