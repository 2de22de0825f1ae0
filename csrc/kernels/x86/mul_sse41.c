/* SPDX-License-Identifier: Apache-2.0
 *
 * Elementwise product with broadcasting, four values at a time.
 */
#include "mul.h"
