/* SPDX-License-Identifier: Apache-2.0
 *
 * Addition with broadcasting, eight values at a time.
 */
#define EK_VECTOR_AVX2
#include "add.h"
