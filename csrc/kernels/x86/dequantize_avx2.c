/* SPDX-License-Identifier: Apache-2.0
 *
 * int8 to float32, eight values at a time.
 */
#include "dequantize.h"
