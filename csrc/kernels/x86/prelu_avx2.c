/* SPDX-License-Identifier: Apache-2.0
 *
 * PRelu, eight values at a time.
 */
#define EK_VECTOR_AVX2
#include "prelu.h"
