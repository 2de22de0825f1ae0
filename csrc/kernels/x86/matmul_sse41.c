/* SPDX-License-Identifier: Apache-2.0
 *
 * Product of two activations, four columns at a time.
 */
#include "matmul.h"
