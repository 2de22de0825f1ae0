/* SPDX-License-Identifier: Apache-2.0
 *
 * float32 to int8, eight values at a time.
 */
#include "quantize.h"
