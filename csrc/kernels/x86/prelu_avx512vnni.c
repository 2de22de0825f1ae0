/* SPDX-License-Identifier: Apache-2.0
 *
 * PRelu, sixteen values at a time.
 */
#define EK_VECTOR_AVX512VNNI
#include "prelu.h"
