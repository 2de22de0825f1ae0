/* SPDX-License-Identifier: Apache-2.0
 *
 * Layer normalization, four values at a time.
 */
#include "layer_norm.h"
