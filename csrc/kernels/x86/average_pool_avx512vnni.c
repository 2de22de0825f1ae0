/* SPDX-License-Identifier: Apache-2.0
 *
 * Average pooling, sixteen channels at a time.
 */
#define EK_VECTOR_AVX512VNNI
#include "average_pool.h"
