/* SPDX-License-Identifier: Apache-2.0
 *
 * float32 to int8, four values at a time.
 */
#define EK_QUANTIZE_KERNEL
#include "quantize.h"
