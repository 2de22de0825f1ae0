/* SPDX-License-Identifier: Apache-2.0
 *
 * Dense layers of one row, 32 channels at a time.
 */
#define EK_VECTOR_AVX2
#include "dense_halves.h"
