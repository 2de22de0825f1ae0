/* SPDX-License-Identifier: Apache-2.0
 *
 * Average pooling, eight channels at a time.
 */
#define EK_VECTOR_AVX2
#include "average_pool.h"
