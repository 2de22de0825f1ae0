/* SPDX-License-Identifier: Apache-2.0
 *
 * Addition with broadcasting, sixteen values at a time.
 */
#define EK_VECTOR_AVX512VNNI
#include "add.h"
