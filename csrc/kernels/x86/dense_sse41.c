/* SPDX-License-Identifier: Apache-2.0
 *
 * Dense layers of one row, 16 channels at a time.
 */
#include "dense_halves.h"
