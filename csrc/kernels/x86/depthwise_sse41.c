/* SPDX-License-Identifier: Apache-2.0
 *
 * Depthwise convolution, four channels at a time.
 */
#include "depthwise.h"
