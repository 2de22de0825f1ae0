/* SPDX-License-Identifier: Apache-2.0
 *
 * int8 to float32, four values at a time.
 */
#include "dequantize.h"
