/* SPDX-License-Identifier: Apache-2.0
 *
 * Average pooling, four values at a time.
 */
#include "average_pool.h"
